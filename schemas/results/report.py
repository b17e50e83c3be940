"""summary.json of the report: every number on the page. Rates are in [0, 1]."""

from typing import Any, Literal

from pydantic import Field

from schemas.results.base import Estimate, Result
from schemas.results.benchmarks import BenchmarkResults
from schemas.results.judge_card import JudgeCard
from schemas.results.measures import Measure
from schemas.results.training import GuardFinding, SampledTokens
from schemas.results.win_rates import Conclusion, JudgeWinRate

Json = dict[str, Any]
ReportConclusion = Literal["better", "worse", "cannot_tell", "not_measured"]


class Headlined(Result):
    """The answer: what is concluded, by whom, and whether a truth that is known agrees."""

    conclusion: ReportConclusion
    headline: str
    by: str | None
    judge: str | None
    truth: ReportConclusion
    agrees_with_truth: bool | None


class SoftRate(Result):
    """The plain win rate, where another measure decides."""

    win_rate: float | None
    ci_low: float | None
    ci_high: float | None
    n: int


class ShownCategory(Result):
    """A category's win rate; too few prompts have none."""

    n: int
    too_small: bool = False
    win_rate: float | None = None
    standard_error: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n_wins: int | None = None
    n_losses: int | None = None
    n_ties: int | None = None
    p_value: float | None = None
    p_bh: float | None = None
    verdict: Conclusion | None = None


class JudgeErrors(Estimate):
    """What the judge's errors, as its card has them, could do to its win rate: a diagnostic.

    `right` is how often it sees a true win, or loss, as such; `statement` says it in words.
    """

    right: float
    n_labels: int
    statement: str


class ShownWinRate(JudgeWinRate):
    """A judge's win rates; value and interval are of the declared measure."""

    value: float | None
    ci_low: float | None  # type: ignore[assignment]
    ci_high: float | None  # type: ignore[assignment]
    soft: SoftRate
    measure: str
    declared: Measure
    verdict: ReportConclusion  # type: ignore[assignment]
    categories: dict[str, ShownCategory]  # type: ignore[assignment]
    judge_errors: JudgeErrors | None = None


class ShownCard(JudgeCard):
    """The judge card, and what it means in words."""

    trust: str


class Round(Result):
    """A round of training: the declared measure by each judge; `gap` is judge less truth."""

    round: int
    judge: Estimate | None
    truth: Estimate | None
    gap: float | None


class Trained(Result):
    """What was trained on what, and against what it is measured."""

    datasets: list[str]
    pairs: int | None
    loss: str | None
    beta: float | None
    starts_at_ln2: bool
    lora: bool
    on_policy: bool
    start: str
    baseline: str


class MetricExtremes(Result):
    """First, last and best value of a metric; best is None where no direction is the better one."""

    first: float
    last: float
    best: float | None
    best_step: int | None


class TrainingCurves(Result):
    """Curves `[[step, value], ...]` of every metric, and their extremes."""

    steps: int
    metrics: dict[str, MetricExtremes]
    curves: dict[str, list[tuple[int, float]]]


class GuardReport(Result):
    """The last chosen reward, where its fall was seen, and all that the guard saw."""

    metric: str
    value: float
    fell_at_step: int | None
    findings: list[GuardFinding]


class ShownCheckpoint(Result):
    """A kept checkpoint and its value of the measure that chose."""

    step: int
    value: float | None
    path: str


class ShownCheckpoints(Result):
    """Which step was published and why, and how it and the other kept ones measured."""

    published_step: int
    final_step: int
    why: str
    measure: str | None
    kept: list[ShownCheckpoint]


class Distribution(Result):
    """One group of a histogram."""

    n: int
    mean: float
    median: float
    p90: float
    max: float
    counts: list[int]


class Histogram(Result):
    """Counts of each group's values in common bins of equal width."""

    unit: str
    edges: list[float]
    groups: dict[str, Distribution]


class PreferenceData(Result):
    """What the trainer read: pairs by split and label source, their lengths and margins."""

    n: int
    splits: dict[str, int]
    label_sources: dict[str, int]
    lengths: Histogram | None
    margins: Histogram | None


class Outputs(Result):
    """What the models write: lengths, and how alike, empty and truncated it is."""

    lengths: Histogram | None
    models: dict[str, Json]


class Warned(Result):
    """A warning and the stage that gave it."""

    stage: str
    message: str


class Compared(Result):
    """Who is compared, by the names that people know them by."""

    policy: str
    baseline: str
    judge: str


class Standing(Result):
    """A model on the leaderboard: its win rate over the baseline, whose own is one half.

    `elo` is its Bradley-Terry rating over all pairs that were judged, the baseline's 1000. `shown`
    is what people call it.
    """

    name: str
    shown: str = ""
    win_rate: float
    elo: float | None = None
    elo_low: float | None = None
    elo_high: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int
    p_holm: float | None = None
    verdict: Conclusion | None = None


class Spent(Result):
    """What a stage's judge took; `cost` in the unit of the prices."""

    stage: str
    prompt_tokens: int
    completion_tokens: int
    cost: float


class PreviousRate(Result):
    """The declared measure of the evaluation before, and the change since; rates in [0, 1]."""

    value: float
    ci_low: float | None
    ci_high: float | None
    n: int
    change: float


class PairDistance(Result):
    """How likely the pairs are to the reference policy: mean log p per token, in nats.

    `own` is the same of what it writes itself, by the numbers of the sampler; None where nothing
    was sampled. Pairs far below it are text that the policy could hardly have written.
    """

    pairs: int
    chosen: float
    rejected: float
    own: float | None = None
    own_samples: int = 0


class ReportSummary(Result):
    """The whole page as numbers; what was not measured is null, never 0."""

    schema_version: int
    title: str
    verdict: Headlined
    compared: Compared | None = None
    leaderboard: list[Standing] = Field(default_factory=list)
    spent: list[Spent] = Field(default_factory=list)
    previous: PreviousRate | None = None
    win_rate: dict[str, ShownWinRate]
    rounds: list[Round]
    world: Json | None
    benchmarks: BenchmarkResults
    judge: ShownCard | None
    trained: Trained
    noise: Json | None = None
    training: TrainingCurves | None
    guard: GuardReport | None
    checkpoints: ShownCheckpoints | None
    sampled: SampledTokens | None = None
    distance: PairDistance | None = None
    generations: Json | None
    other_training: dict[str, TrainingCurves]
    data: Json
    preference_data: PreferenceData
    outputs: Outputs
    scores: Histogram | None
    examples: Json
    verdicts: Json
    stages: dict[str, Json]
    warnings: list[Warned]
    settings: dict[str, Json]
    provenance: Json = Field(default_factory=dict)
