"""The guard: which changes it speaks up about, at which numbers, and once each."""

from typing import Any

import pytest

from schemas.stage import SilentProgress
from stages.training.monitoring.config import GuardSettings
from stages.training.monitoring.generations import measures_of
from stages.training.monitoring.guard import Guard

START = {
    "step": 0,
    "eval_completions/end_of_turn_rate": 1.0,
    "eval_completions/well_formed_rate": 0.9,
    "eval_completions/mean_length": 40.0,
}


def watched(*changes: dict[str, float], **settings: float) -> tuple[Guard, list[str]]:
    progress = SilentProgress()
    guard = Guard(GuardSettings(**settings), 0.1, progress, held_out=True)
    guard.begin([START, *(START | {"step": i} | c for i, c in enumerate(changes, start=1))])
    return guard, progress.warnings


@pytest.mark.parametrize(
    ("measure", "quiet", "loud", "check", "words"),
    [
        ("end_of_turn_rate", 0.8, 0.75, "end_of_turn_fell", "0.75 of the sampled completions end"),
        ("well_formed_rate", 0.71, 0.65, "well_formed_fell", "0.65 of the sampled completions are"),
        ("mean_length", 60.0, 61.0, "length_drifted", "61 tokens long on average, 40 at the start"),
        ("mean_length", 26.7, 26.0, "length_drifted", "26 tokens long on average, 40 at the start"),
    ],
)
def test_speaks_up_beyond_the_limit_and_only_once(
    measure: str, quiet: float, loud: float, check: str, words: str
) -> None:
    name = f"eval_completions/{measure}"
    guard, warnings = watched({name: quiet}, {name: loud}, {name: loud / 2}, {name: START[name]})
    assert guard.first_step(check) == 2
    (warning,) = warnings
    assert warning.startswith("train: step 2: ")
    assert words in warning
    (found,) = guard.findings
    assert (found.before, found.now, found.last) == (START[name], loud, START[name])


def test_limits_can_be_set() -> None:
    change = {"eval_completions/end_of_turn_rate": 0.5}
    assert watched(change, end_of_turn_fall=0.6)[1] == []
    assert watched(change, end_of_turn_fall=0.4)[1] != []


def test_few_tokens_are_no_drift_whatever_the_factor() -> None:
    progress = SilentProgress()
    guard = Guard(GuardSettings(), 0.1, progress, held_out=True)
    name = "eval_completions/mean_length"
    guard.begin([{"step": i, name: n} for i, n in enumerate([4.0, 8.0, 2.0, 12.0])])
    assert progress.warnings == []
    guard.begin([{"step": 4, name: 12.1}])
    assert len(progress.warnings) == 1


def test_findings_come_in_the_order_of_steps() -> None:
    late = {"eval_completions/mean_length": 99.0, "eval_completions/well_formed_rate": 0.0}
    guard, _ = watched({}, {"eval_completions/well_formed_rate": 0.0}, late)
    assert [f.check for f in guard.findings] == ["well_formed_fell", "length_drifted"]


def test_measures_of_generations_by_hand() -> None:
    def row(tokens: int, reason: str, formed: bool | None) -> dict[str, Any]:
        return {"num_tokens": tokens, "finish_reason": reason, "well_formed": formed}

    rows = [row(2, "stop", True), row(12, "length", False), row(4, "stop", True)]
    assert measures_of(rows) == {
        "eval_completions/end_of_turn_rate": pytest.approx(2 / 3),
        "eval_completions/mean_length": 6.0,
        "eval_completions/well_formed_rate": pytest.approx(2 / 3),
    }
    assert len(measures_of([row(2, "stop", None)])) == 2
