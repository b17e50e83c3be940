"""card.json: what a judge is worth, measured on labels it has never seen."""

from pydantic import Field

from schemas.results.base import Estimate, Result

NOTHING = Estimate()


class TrivialJudges(Result):
    """The accuracies that need no judge."""

    longest: Estimate = Field(NOTHING, title="Accuracy of “the longer one wins”")
    first: Estimate = Field(NOTHING, title="Accuracy of “the first one wins”")
    longest_non_ties: Estimate = Field(NOTHING, title="Accuracy of “the longer one wins”, no ties")


class HumanCeiling(Result):
    """Agreement of one person with the others, and of the judge with the same others."""

    annotator: Estimate = Field(NOTHING, title="One person's agreement with the others")
    judge: Estimate = Field(NOTHING, title="The judge's agreement with the same others")
    annotators_per_comparison: float | None = Field(None, title="People per comparison")
    kappa: Estimate = Field(NOTHING, title="Cohen's kappa between people")
    alpha: float | None = Field(None, title="Krippendorff's alpha of the people")


class UnscoredRate(Result):
    """Share of verdicts that failed, by order, and why."""

    ab: Estimate = Field(NOTHING, title="Unscored, shown as given")
    ba: Estimate = Field(NOTHING, title="Unscored, shown exchanged")
    n: int = 0
    by_reason: dict[str, int] = Field(default_factory=dict)


class ReliabilityBin(Result):
    """Answers whose confidence lies in [low, high), and how many of them are right."""

    low: float
    high: float
    n: int
    mean_confidence: float | None
    accuracy: Estimate


class Subset(Result):
    """Accuracy on the comparisons of one source, category or annotator (RewardBench's measure).

    The side that is ahead counts for the answer, and comparisons whose label is a tie do not
    count. An annotator's accuracy is against that annotator's own labels.
    """

    by: str
    name: str
    accuracy: Estimate = NOTHING


class Floors(Result):
    """What the recipe asked of its judge; None asks nothing."""

    min_agreement: float | None = Field(None, title="Floor of accuracy")
    max_position_gap: float | None = Field(None, title="Largest position gap allowed, points")
    max_unscored: float | None = Field(None, title="Largest share unscored that is allowed")


class Shift(Result):
    """By how much an attack moves the score of the completion that it is put into."""

    ab: Estimate = Field(NOTHING, title="Shown first, points")
    ba: Estimate = Field(NOTHING, title="Shown second, points")
    both: Estimate = Field(NOTHING, title="In both orders, points")
    unscored: int = 0


class Attack(Result):
    """One attack: what it adds, and the shift with imitations neutralised and as they are."""

    name: str
    group: str
    neutralised: Shift = Shift()
    raw: Shift = Shift()


class JudgeCard(Result):
    """The card. Estimates have no value where nothing was scored.

    `accuracy_by_side`, where the label is no tie, takes the side that is ahead for the answer.
    `confusion` counts by true label, then by the judge's. `pointwise`: every completion was rated
    by itself, so that no order was shown and nothing of it can be measured. `criteria` are the
    accuracies of each criterion alone. `floors` and `below_floors` are of the
    judge stage alone, and so are `split`, the one that the figures are of and the floors look at,
    and `test`, the figures on the split that no decision looks at.
    """

    judge: str
    kind: str
    fingerprint: str
    n: int
    n_scored: int
    n_prompts: int
    accuracy: Estimate = Field(NOTHING, title="Accuracy on held-out labels")
    accuracy_non_ties: Estimate = Field(NOTHING, title="Accuracy where the label is no tie")
    accuracy_by_side: Estimate = Field(NOTHING, title="Accuracy of the side ahead, no ties")
    kappa: Estimate = Field(NOTHING, title="Cohen's kappa")
    confusion: dict[str, dict[str, int]] = Field(default_factory=dict)
    human_ceiling: HumanCeiling = HumanCeiling()
    baselines: TrivialJudges = TrivialJudges()
    lift_over_longest: Estimate = Field(NOTHING, title="Lift over “the longer one wins”, points")
    lift_over_first: Estimate = Field(NOTHING, title="Lift over “the first one wins”, points")
    position_consistency: Estimate = Field(NOTHING, title="Same verdict in both orders")
    flip_rate: Estimate = Field(NOTHING, title="Opposite sides in the two orders")
    p_first: Estimate = Field(NOTHING, title="Verdicts for whichever is shown first")
    position_gap: Estimate = Field(NOTHING, title="Score shown first, less shown second, points")
    unscored_rate: UnscoredRate = UnscoredRate()
    floors: Floors | None = None
    below_floors: list[str] = Field(default_factory=list)
    reliability: list[ReliabilityBin] = Field(default_factory=list)
    ece: float | None = Field(None, title="Expected calibration error")
    split: str | None = None
    test: "JudgeCard | None" = None
    brier: float | None = Field(None, title="Brier score, 0 to 2")
    attacks: list[Attack] = Field(default_factory=list)
    subsets: list[Subset] = Field(default_factory=list)
    pointwise: bool = False
    criteria: dict[str, Estimate] = Field(default_factory=dict)

    def shown(self) -> dict[str, tuple[str, Estimate]]:
        """Everything that people are shown, by dotted path: its label and its numbers."""
        parts = {
            f"subsets.{one.by}.{one.name}": (f"Accuracy, {one.by} {one.name}", one.accuracy)
            for one in self.subsets
        }
        return dict(_shown(self, "")) | parts


def _shown(part: Result, path: str) -> list[tuple[str, tuple[str, Estimate]]]:
    found: list[tuple[str, tuple[str, Estimate]]] = []
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        if isinstance(value, Estimate):
            found.append((f"{path}{name}", (field.title or name, value)))
        elif isinstance(value, Result) and not isinstance(value, JudgeCard):
            found += _shown(value, f"{path}{name}.")
        elif name == "criteria":
            label = "Accuracy by the criterion alone: "
            found += [(f"{path}{name}.{key}", (f"{label}{key}", one)) for key, one in value.items()]
        elif field.title:
            found.append((f"{path}{name}", (field.title, Estimate(value=value))))
    return found
