"""Speaks up when the policy forgets what it is trained to prefer, how to stop, or what to say."""

from collections.abc import Callable, Mapping, Sequence

from transformers import PreTrainedModel

from schemas.results.training import GuardFinding
from schemas.stage import Progress
from stages.training.monitoring.config import GuardSettings
from stages.training.monitoring.metrics import Row
from stages.training.monitoring.observers import Observer
from stages.training.monitoring.written import END_OF_TURN_RATE, MEAN_LENGTH, WELL_FORMED_RATE

_MIN_NATS = 1.0
_MIN_COLLAPSE_NATS = 10.0
_MIN_TOKENS = 8
_ADVICE = "set loss.rpo_alpha, raise loss.beta or lower learning_rate"


Check = Callable[["Guard", Mapping[str, float]], GuardFinding | None]


class Guard(Observer):
    """Compares every measured step with the start; warns once per check, with step and numbers.

    A preference loss only asks that chosen stays ahead of rejected; it goes to zero as well when
    both become improbable, and with them every well-formed answer.
    """

    def __init__(
        self, settings: GuardSettings, beta: float, progress: Progress, *, held_out: bool
    ) -> None:
        """Without held-out pairs log p(chosen) is watched on the pairs of each step."""
        self.settings = settings
        self.beta = beta
        self.prefix = "eval_" if held_out else ""
        self.start: Mapping[str, float] = {}
        self._progress = progress
        self._findings: dict[str, GuardFinding] = {}
        self._last: dict[str, float] = {}

    def begin(self, rows: Sequence[Row]) -> None:
        """Look again at what a resumed training has seen: the warnings belong to the whole."""
        for row in rows:
            self._look(row)

    def observe(self, row: Row, model: PreTrainedModel) -> None:
        """Look at the row of a step."""
        self._look(row)

    @property
    def findings(self) -> list[GuardFinding]:
        """What was found, oldest first, each with the measure's `last` value."""
        found = sorted(self._findings.values(), key=lambda f: (f.step, f.check))
        return [f.model_copy(update={"last": self._last[f.measure]}) for f in found]

    def first_step(self, check: str) -> int | None:
        """The step at which a check found something first; None where it never did."""
        found = self._findings.get(check)
        return found.step if found else None

    def is_sound(self, row: Mapping[str, float]) -> bool:
        """Whether the completions of a measured step end, and are well-formed, often enough."""
        return not (_end_of_turn(self, row) or _well_formed(self, row))

    def is_collapsed(self, row: Mapping[str, float]) -> bool:
        """Whether log p(chosen) has fallen so far that what a loss says means nothing any more.

        At a wild learning rate both completions become improbable, rejected more so, and a
        preference loss is then lowest.
        """
        seen = _chosen_and_reference(self, row)
        if seen is None:
            return False
        now, reference = seen
        return now < reference - max(
            _MIN_COLLAPSE_NATS, abs(reference) * self.settings.collapse_fall
        )

    def _look(self, row: Mapping[str, float]) -> None:
        if row["step"] == 0:
            self.start = row
        self._last |= row
        for check in (_chosen, _end_of_turn, _well_formed, _length):
            found = check(self, row)
            if found and found.check not in self._findings:
                self._findings[found.check] = found
                self._progress.warn(f"train: step {found.step}: {found.message}")


def _chosen(guard: Guard, row: Mapping[str, float]) -> GuardFinding | None:
    """Mean log p(chosen) below the reference's, by a share of it and by 1 nat at least."""
    seen = _chosen_and_reference(guard, row)
    if seen is None:
        return None
    now, reference = seen
    measure = f"{guard.prefix}logps/chosen"
    limit = reference - max(_MIN_NATS, abs(reference) * guard.settings.chosen_fall)
    if now >= limit:
        return None
    where = "held-out" if guard.prefix else "training"
    message = (
        f"mean log p(chosen) on {where} pairs fell from the reference's {reference:.2f} to "
        f"{now:.2f}: the policy unlearns the answers it should prefer; {_ADVICE}"
    )
    return _found("chosen_fell", measure, row, (reference, now, limit), message)


def _chosen_and_reference(guard: Guard, row: Mapping[str, float]) -> tuple[float, float] | None:
    """Mean log p(chosen) of the policy and of the reference (nats), where a row has them."""
    measure = f"{guard.prefix}logps/chosen"
    if measure not in row:
        return None
    now = row[measure]
    return now, now - row[f"{guard.prefix}rewards/chosen"] / guard.beta


def _end_of_turn(guard: Guard, row: Mapping[str, float]) -> GuardFinding | None:
    words = "of the sampled completions end by themselves", "the policy unlearns to stop"
    fall = guard.settings.end_of_turn_fall
    return _rate_fell(guard, row, "end_of_turn_fell", END_OF_TURN_RATE, fall, words)


def _well_formed(guard: Guard, row: Mapping[str, float]) -> GuardFinding | None:
    words = "of the sampled completions are well-formed", "the policy unlearns the format"
    fall = guard.settings.well_formed_fall
    return _rate_fell(guard, row, "well_formed_fell", WELL_FORMED_RATE, fall, words)


def _rate_fell(
    guard: Guard,
    row: Mapping[str, float],
    check: str,
    measure: str,
    fall: float,
    words: tuple[str, str],
) -> GuardFinding | None:
    """A rate further below the start's than it may fall."""
    if measure not in row or measure not in guard.start:
        return None
    before, now = guard.start[measure], row[measure]
    if now >= before - fall:
        return None
    message = f"a share of {now:.2f} {words[0]}, {before:.2f} at the start: {words[1]}; {_ADVICE}"
    return _found(check, measure, row, (before, now, before - fall), message)


def _found(
    check: str,
    measure: str,
    row: Mapping[str, float],
    numbers: tuple[float, float, float],
    message: str,
) -> GuardFinding:
    before, now, limit = numbers
    return GuardFinding(
        check=check,
        measure=measure,
        step=int(row["step"]),
        before=before,
        now=now,
        limit=limit,
        message=message,
    )


def _length(guard: Guard, row: Mapping[str, float]) -> GuardFinding | None:
    """A mean length further from the start's than a factor, and than 8 tokens."""
    if MEAN_LENGTH not in row or MEAN_LENGTH not in guard.start:
        return None
    before, now = guard.start[MEAN_LENGTH], row[MEAN_LENGTH]
    factor = guard.settings.length_drift
    limit = (
        max(before * factor, before + _MIN_TOKENS)
        if now > before
        else min(before / factor, before - _MIN_TOKENS)
    )
    if (now - limit) * (now - before) <= 0:
        return None
    message = (
        f"the sampled completions are {now:.0f} tokens long on average, {before:.0f} at the start: "
        "length may be what is learned; compare the lengths of chosen and rejected, or take the "
        "loss length_normalised"
    )
    return _found("length_drifted", MEAN_LENGTH, row, (before, now, limit), message)
