"""The win rate by the judge, by people, and by the judge anchored in people, side by side."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from evals.audit.labels import HumanLabel
from evals.statistics.anchored import anchored_rate
from evals.statistics.conclusions import conclusion
from evals.statistics.means import mean
from evals.statistics.raters import krippendorff_alpha, mean_kappa
from evals.win_rate.win_rate import VerdictRow, prompt_scores, win_rate
from schemas.errors import DataError
from schemas.results.base import Estimate
from schemas.results.win_rates import HumanWinRate, LabelledRate, PeopleAgreement, WinRate

SCORES = {"A": 1.0, "B": 0.0, "tie": 0.5}
UNKNOWN = 0.5
"""What stands in for the judge on a prompt that it left unscored: any guess is a fair one."""


@dataclass
class _Labelled:
    """What people said, by prompt and comparison; and what does not count."""

    by_prompt: dict[str, dict[str, list[HumanLabel]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    skipped: int = 0
    unknown: int = 0


def human_win_rate(
    verdicts: Sequence[VerdictRow], labels: Sequence[HumanLabel], path: Path
) -> HumanWinRate:
    """Join one judge's verdicts with people's labels; the unit is the prompt.

    A comparison that several people labelled has their mean, a prompt the mean of its comparisons.

    Args:
        verdicts: VERDICTS rows of one judge, of all prompts that the rate is about.
        labels: of some of them, drawn at random or with the probabilities they name.
        path: where the labels are, for messages.

    Raises:
        DataError: fewer than two prompts of these are labelled, or only some have probabilities.
    """
    found = _sorted_out(verdicts, labels)
    if len(found.by_prompt) < 2:
        raise DataError(
            f"{path}: {len(found.by_prompt)} of these prompts are labelled ({found.unknown} labels "
            f"are of other comparisons, {found.skipped} skipped); label at least two"
        )
    scores = prompt_scores(verdicts)
    prompts = sorted({row["prompt_id"] for row in verdicts})
    probability = _probabilities(found, prompts, path)
    people = {prompt: _score(of) for prompt, of in found.by_prompt.items()}
    done = anchored_rate(
        np.array([scores.get(prompt, UNKNOWN) for prompt in prompts]),
        np.array([people.get(prompt, np.nan) for prompt in prompts]),
        np.array([prompt in people for prompt in prompts]),
        probability,
    )
    by_judge = win_rate(verdicts)
    said = conclusion(done.anchored.ci_low, done.anchored.ci_high)
    known = [label for of in found.by_prompt.values() for one in of.values() for label in one]
    shown = done.anchored
    settle = _settle_words(done.labels_to_settle, len(people)) if said == "cannot tell" else ""
    return HumanWinRate(
        judge=LabelledRate(
            rate=by_judge.win_rate,
            standard_error=by_judge.standard_error,
            ci_low=by_judge.ci_low,
            ci_high=by_judge.ci_high,
            n=by_judge.n,
        ),
        people=_labelled(done.people),
        anchored=_labelled(shown),
        weight=done.weight,
        n_prompts=len(prompts),
        n_labels=len(known),
        n_skipped=found.skipped,
        n_unknown=found.unknown,
        annotators=sorted({label.annotator for label in known}),
        agreement=_agreement(found),
        labels_to_settle=done.labels_to_settle,
        verdict=said,
        statement=(
            f"{said.capitalize()}, by people: anchored win rate {shown.value:.1%} (95% interval "
            f"{shown.ci_low:.1%} to {shown.ci_high:.1%}, {len(people):,} of {len(prompts):,} "
            f"prompts labelled).{settle}"
        ),
    )


def beside_truth(found: HumanWinRate, truth: WinRate) -> HumanWinRate:
    """The same beside what all labels would have said; who of the three held it, in words."""
    known = LabelledRate(**dict(truth) | {"rate": truth.win_rate})
    if known.rate is None:
        return found
    held = [_holds(one, known.rate) for one in (found.judge, found.anchored)]
    inside = {True: "holds it", False: "does not hold it"}
    words = (
        f" The truth over all prompts is {known.rate:.1%}: the anchored interval "
        f"{inside[held[1]]}, the judge's own {inside[held[0]]}."
    )
    return found.model_copy(update={"truth": known, "statement": found.statement + words})


def _holds(found: LabelledRate, truth: float) -> bool:
    low, high = found.ci_low, found.ci_high
    return low is not None and high is not None and low <= truth <= high


def _sorted_out(verdicts: Sequence[VerdictRow], labels: Sequence[HumanLabel]) -> _Labelled:
    prompt_of = {row["comparison_id"]: row["prompt_id"] for row in verdicts}
    of_prompt: dict[str, set[str]] = defaultdict(set)
    for comparison, prompt in prompt_of.items():
        of_prompt[prompt].add(comparison)
    found = _Labelled()
    for label in labels:
        own = label.comparison_id
        if not own and len(of_prompt.get(label.prompt_id or "", ())) == 1:
            own = next(iter(of_prompt[label.prompt_id or ""]))
        if label.label == "skip":
            found.skipped += 1
        elif own in prompt_of:
            found.by_prompt[prompt_of[own]][own].append(label)
        else:
            found.unknown += 1
    return found


def _score(comparisons: Mapping[str, Sequence[HumanLabel]]) -> float:
    return mean([mean([SCORES[one.label] for one in said]) for said in comparisons.values()])


def _probabilities(
    found: _Labelled, prompts: Sequence[str], path: Path
) -> "np.ndarray[tuple[int], np.dtype[np.float64]] | None":
    """By prompt, with which it was drawn; None where no label names one.

    Of several labelled comparisons of a prompt: that at least one was drawn.
    """
    known: dict[str, float] = {}
    without = 0
    for prompt, comparisons in found.by_prompt.items():
        missed = 1.0
        for said in comparisons.values():
            p = said[0].probability
            without += p is None
            if p is not None and not 0 < p <= 1:
                raise DataError(f"{path}: probability {p} of a label is not in (0, 1]")
            missed *= 1 - (p if p is not None else 0.0)
        known[prompt] = 1 - missed
    if without == sum(len(of) for of in found.by_prompt.values()):
        return None
    if without:
        raise DataError(
            f"{path}: some labels have a probability and some have none; give it for all or none"
        )
    return np.array([known.get(prompt, 1.0) for prompt in prompts])


def _agreement(found: _Labelled) -> PeopleAgreement:
    several = [
        {label.annotator: label.label for label in said}
        for of in found.by_prompt.values()
        for said in of.values()
        if len({label.annotator for label in said}) > 1
    ]
    pairs = [a == b for unit in several for a, b in combinations(unit.values(), 2)]
    return PeopleAgreement(
        n_pairs=len(several),
        agreement=sum(pairs) / len(pairs) if pairs else None,
        kappa=mean_kappa(several),
        alpha=krippendorff_alpha([list(unit.values()) for unit in several]),
    )


def _labelled(found: Estimate) -> LabelledRate:
    return LabelledRate(
        rate=found.value,
        standard_error=found.standard_error,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        n=found.n,
    )


def _settle_words(settle: int | None, n: int) -> str:
    if settle is None:
        return " No number of labels of these prompts would settle it: compare on more prompts."
    return f" About {settle:,} labels would settle it." if settle > n else ""
