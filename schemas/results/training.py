"""checkpoints.json and summary.json of a training stage."""

from typing import Any

from pydantic import Field

from schemas.results.base import Result


class KeptCheckpoint(Result):
    """A checkpoint that was kept: where, and how it measured (`eval_...`)."""

    step: int
    path: str
    measures: dict[str, Any] = Field(default_factory=dict)


class CheckpointRecord(Result):
    """What is kept where, how it measured, what is published and why.

    `publish` is the rule, as the recipe has it; its `measure` is missing where the last step was
    asked for. `loss_of_first` is what the published weights must give again when they are read
    back: nats of a few rows, by the model that was saved.
    """

    publish: dict[str, Any] = Field(default_factory=dict)
    published_step: int
    final_step: int
    why: str
    loss_of_first: float | None = None
    checkpoints: list[KeptCheckpoint]


class Published(Result):
    """The step whose weights are published, the last step, and why it is that one.

    `loss` is of one held-out item, when the weights were written.
    """

    step: int
    final_step: int
    why: str
    loss: float | None = None


class GuardFinding(Result):
    """What a check saw first: `now` is beyond `limit`; `before` is the start's, or reference's.

    `last` is the measure's value at the end.
    """

    check: str
    measure: str
    step: int
    before: float
    now: float
    limit: float
    message: str
    last: float | None = None


class ReadBack(Result):
    """One held-out loss (nats per token) of the published step, before and after it was on disk."""

    trained: float
    saved: float
    dtype: str


class SamplerDrift(Result):
    """|log p of the sampler - log p of the trainer| of sampled tokens, in nats.

    Above `bound` the 99th percentile is warned of: the two do not run the same model.
    """

    tokens: int
    mean: float
    p99: float
    bound: float


class SampledTokens(Result):
    """Completions trained as a sampler drew them, and how many the text would give otherwise."""

    completions: int
    otherwise: int
    share_otherwise: float | None
    drift: SamplerDrift | None


class TrainingSummary(Result):
    """What a reader wants of a training's record: rows of metrics, what was published, findings."""

    loss: dict[str, Any] = Field(default_factory=dict)
    method: str | None = None
    reference: str | None = None
    counts: dict[str, int] = Field(default_factory=dict)
    final: dict[str, Any] = Field(default_factory=dict)
    eval_first: dict[str, Any] | None = None
    eval_last: dict[str, Any] | None = None
    eval_best: dict[str, Any] | None = None
    published: Published | None = None
    read_back: ReadBack | None = None
    guard: list[GuardFinding] = Field(default_factory=list)
    chosen_fell_at_step: int | None = None
    drift: SamplerDrift | None = None
