"""Settings of evaluate."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from evals.judges import JudgeKind
from evals.models.contenders import ContenderSource, OutputsFile
from evals.models.samplers import AutoSampler, SamplerConfig, SamplingSettings
from schemas.results.measures import Measure

POLICY, BASELINE = "policy", "baseline"
ALL_TASKS = "all"


ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""A name that files can have too."""


class EvaluateConfig(SamplingSettings):
    """What is measured on held-out prompts, and how completions are sampled for it."""

    policy: ContenderSource | None = Field(
        None,
        description="the model to evaluate, also a file of outputs or a served model; null takes "
        "what [train] has made",
    )
    checkpoint_step: int | None = Field(
        None, ge=1, description="the checkpoint of [train] to take; null takes the published one"
    )
    baseline: ContenderSource | None = Field(
        None, description="the model to beat; null takes what training started from"
    )
    prompts: str | None = Field(
        None,
        description="a file of prompts to answer, all of them, or a standard set and its folder, "
        "like arena-hard-v2.0=FOLDER (alpaca-eval, arena-hard-v0.1, mt-bench; NAME:CATEGORY=FOLDER "
        "for a part); null takes the test split of [ingest], or without one the prompts that files "
        "of outputs bring",
    )
    names: dict[str, str] = Field(
        default_factory=dict,
        description="what people call policy, baseline and the models of compare_with",
    )
    sampler: SamplerConfig = Field(
        default_factory=AutoSampler, description="engine that writes the completions"
    )
    n: int = Field(1, ge=1, description="completions per prompt and model for the win rate")
    split: Literal["dev", "test"] = Field(
        "test",
        description="the prompts it is measured on: test, to be reported, or dev, to decide by",
    )
    temperatures: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description="by a prompt's category, from what temperature models answer it, like "
        "{ writing = 0.7, math = 0.0 } as MT-Bench was published; others have temperature",
    )
    max_prompts: int | None = Field(
        None, ge=1, description="prompts for the win rate; null takes all"
    )
    shard_size: int = Field(
        512,
        ge=1,
        description="prompts between two checkpoints, 64 at most where a server is asked; a killed "
        "run repeats at most these, and a worker of a cluster takes so many",
    )
    truth: JudgeKind | None = Field(
        None, description="a second judge that is right by definition, such as a rule"
    )
    headline: Measure = Field(
        "win_rate",
        description="the measure that decides, declared before any verdict: win_rate, "
        "length_controlled or discrete",
    )
    stop_when_settled: bool = Field(
        False,
        description="judge prompts in shuffled order until the headline can be told, by an "
        "interval that holds whenever one stops; saves verdicts where the difference is large",
    )
    labels: str | None = Field(
        None,
        description="file of what people said of some of the pairs, JSON lines as `prefline audit` "
        "writes them: anchors the win rate in them",
    )
    truth_labels: int | None = Field(
        None,
        ge=2,
        description="prompts, drawn at random, whose true verdicts stand for labels of people: "
        "shows beside the true rate what an audit of that size would have found",
    )
    tasks: tuple[str, ...] = Field(
        (),
        description="inspect tasks, for all models: instruction_following, preference_accuracy, "
        "judge_bench, pairwise_win_rate, food_preference; any installed (inspect_evals/ifeval); "
        "or a file's (my_tasks.py@mine)",
    )
    task_args: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="arguments of tasks, by task"
    )
    compare_with: dict[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")], ContenderSource
    ] = Field(
        default_factory=dict,
        description="further models by name, such as base, each against the same baseline on the "
        'same prompts; benchmarks too, where they can be run; or "best_of_4" alone',
    )
    all_pairs: bool = Field(
        False,
        description="judge every two models against each other, not only each against the "
        "baseline; ratings of three or more rest on whatever pairs are judged",
    )
    best_of: int | None = Field(
        None,
        ge=2,
        description="also compare with the best of so many samples of the baseline, as the judge "
        "chooses it: what training gained over sampling more",
    )
    margins: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="by task, or for `all`: how much worse than its baseline a model may be on a "
        "benchmark and still be no worse, in the measure's own units, like { all = 0.02 }",
    )
    epochs: int = Field(1, ge=1, description="completions per sample of a task")
    limit: int | None = Field(None, ge=1, description="samples per task; null takes all")

    @model_validator(mode="before")
    @classmethod
    def _best_of_alone(cls, value: Any) -> Any:
        """`compare_with = "best_of_4"` is `best_of = 4`."""
        if isinstance(value, Mapping) and isinstance(said := value.get("compare_with"), str):
            number = re.fullmatch(r"best_of_(\d+)", said)
            if number is None:
                raise ValueError(
                    f"compare_with: {said!r} is neither best_of_4, or another number, nor models "
                    "by name"
                )
            rest = {key: one for key, one in value.items() if key != "compare_with"}
            return {**rest, "best_of": int(number[1])}
        return value

    @field_validator("compare_with")
    @classmethod
    def _no_namesakes(cls, value: dict[str, ContenderSource]) -> dict[str, ContenderSource]:
        if taken := sorted({POLICY, BASELINE, "judge"} & set(value)):
            raise ValueError(f"{taken[0]} is a name that every evaluation has; use another")
        return value

    @model_validator(mode="after")
    def _can_settle(self) -> "EvaluateConfig":
        if self.stop_when_settled and self.headline == "length_controlled":
            raise ValueError(
                "stop_when_settled: a length-controlled rate has no interval that holds whenever "
                "one stops; take headline win_rate or discrete, or judge all prompts"
            )
        if self.stop_when_settled and (self.compare_with or self.best_of):
            raise ValueError(
                "stop_when_settled: models of compare_with and best_of are compared on a number of "
                "prompts that is fixed beforehand; leave one of the two out"
            )
        return self

    @model_validator(mode="after")
    def _truth_labels_are_the_truth_s(self) -> "EvaluateConfig":
        if self.truth_labels and (self.truth is None or self.labels):
            raise ValueError(
                "truth_labels: are drawn from the verdicts of [evaluate.truth], where no file of "
                "labels is named; give truth and leave labels out"
            )
        return self

    @model_validator(mode="after")
    def _samples_differ(self) -> "EvaluateConfig":
        if self.best_of and 0 in (self.temperature, *self.temperatures.values()):
            raise ValueError(
                "best_of: at temperature 0 all samples are one; raise temperature or temperatures, "
                "or leave it out"
            )
        if unknown := sorted(self.margins.keys() - {*self.tasks, ALL_TASKS}):
            raise ValueError(
                f"margins.{unknown[0]}: is none of tasks, nor {ALL_TASKS}; name a task that is run"
            )
        return self

    def margin(self, task: str) -> float | None:
        """How much worse on a task is no worse; None where nothing was declared."""
        return self.margins.get(task, self.margins.get(ALL_TASKS))

    def at_its_temperature(self, category: str | None) -> "EvaluateConfig":
        """The settings by which prompts of a category are answered."""
        own = self.temperatures.get(category or "", self.temperature)
        return self if own == self.temperature else self.model_copy(update={"temperature": own})

    @property
    def sources(self) -> list[ContenderSource]:
        """All contenders that the config names, the baseline first."""
        named = (self.baseline, self.policy, *self.compare_with.values())
        return [source for source in named if source is not None]

    @property
    def brings_prompts(self) -> bool:
        """Whether it needs no prompts of [ingest]."""
        return self.prompts is not None or any(isinstance(s, OutputsFile) for s in self.sources)

    @property
    def settings(self) -> SamplingSettings:
        """The sampling settings alone."""
        return SamplingSettings(**{k: getattr(self, k) for k in SamplingSettings.model_fields})
