"""What a stage is, and what it is given to work with."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import DataError, MissingInputError
from schemas.files import remove
from schemas.work import Bill, Known, Work


class Config(BaseModel):
    """Base of every section of a recipe: frozen, and an unknown key is an error."""

    # A validator is built when it is first needed: most commands need few of the many.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    # The field whose own keys a recipe has in the section itself, as `kind` in [judge].
    written_flat: ClassVar[str | None] = None


class ServerRuntime(Config):
    """Calls to an OpenAI-compatible server."""

    concurrency: int = Field(
        64, ge=1, description="most calls in flight; fewer while the server is too busy"
    )
    timeout_seconds: float = Field(60, gt=0, description="longest wait for one reply")
    deadline_seconds: float = Field(
        300, gt=0, description="longest that a call may take with all its attempts"
    )
    attempts: int = Field(8, ge=1, description="most attempts of one call")
    give_up_after: int = Field(
        20, ge=1, description="calls in a row that fail before the stage stops"
    )
    max_response_bytes: int = Field(1_000_000, ge=1000, description="longer replies are refused")


class SamplerServerRuntime(ServerRuntime):
    """Calls to the server of a sampler, which has long texts to write."""

    concurrency: int = Field(
        256, ge=1, description="most calls in flight; fewer while the server is too busy"
    )
    timeout_seconds: float = Field(900, gt=0, description="longest wait for one reply")
    deadline_seconds: float = Field(
        3600, gt=0, description="longest that a call may take with all its attempts"
    )
    max_response_bytes: int = Field(20_000_000, ge=1000, description="longer replies are refused")


class JudgeServerRuntime(ServerRuntime):
    """Calls to the server of an llm judge, and what they may cost, in any one currency."""

    price_per_million_prompt_tokens: float = Field(0, ge=0, description="price of what is read")
    price_per_million_completion_tokens: float = Field(
        0, ge=0, description="price of what is written"
    )
    max_cost: float | None = Field(
        None, gt=0, description="most that all answers of a judge in its cache may cost together"
    )
    cache: str | None = Field(
        None,
        description="folder of answers, on a local disk; runs that name the same one share them; "
        "null takes judge-answers/ in the run directory, or ~/.cache/prefline outside of runs",
    )


ReporterName = Literal["tensorboard", "trackio", "wandb"]


class RayRuntime(Config):
    """The Ray cluster that samples and judges, and what one worker of it takes."""

    address: str | None = Field(
        None, description="host:port of a running cluster; null: $RAY_ADDRESS, else this machine"
    )
    workers: int | None = Field(
        None,
        ge=1,
        description="engines at work, each with all of the model (data parallelism); null takes as "
        "many as the cluster has room for",
    )
    cpus_per_worker: float = Field(1, gt=0, description="CPU cores that Ray sets aside for one")
    gpus_per_worker: float = Field(0, ge=0, description="GPUs that Ray sets aside for one")


class Runtime(Config):
    """How to execute, not what to compute.

    Nothing here is part of a fingerprint but batch sizes that are not the default: the last bits of
    a number depend on what else was in its batch.
    """

    engine: Literal["local", "ray"] = Field(
        "local",
        description="who samples and judges, in sample, label, judge and evaluate: this process, "
        "or a pool on a Ray cluster",
    )
    ray: RayRuntime = Field(default_factory=RayRuntime, description="the cluster of engine ray")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where torch runs; auto takes the GPU if there is one"
    )
    threads: int | None = Field(
        None,
        ge=1,
        description="torch threads; null leaves torch's choice, one for each core, which is slow "
        "where other programs use the cores too",
    )
    sampler_batch_size: int = Field(
        64, ge=1, description="prompts per generate call of the transformers sampler"
    )
    judge_batch_size: int = Field(32, ge=1, description="comparisons per forward of a local judge")
    keep_training_state: bool = Field(
        True,
        description="keep what a finished training needs to go on with a larger max_steps, where "
        "its schedule allows that: up to three times the weights, in resume/",
    )
    cache_dir: str | None = Field(
        None,
        description="folder of tokens and reference log-probabilities that runs share and may be "
        "deleted; null: $PREFLINE_CACHE, else prefline/ in the user's cache folder",
    )
    cache_max_gb: float = Field(
        20.0, ge=0, description="size at which the least recently used are dropped from cache_dir"
    )
    reporters: tuple[ReporterName, ...] = Field(
        (),
        description="programs that draw the curves of trainings too: tensorboard, trackio, wandb; "
        "each is an extra of the installation",
    )
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="share of GPU memory that vLLM may take"
    )
    tensor_parallel_size: int = Field(
        1, ge=1, description="GPUs that each layer of a vLLM engine is split over"
    )
    pipeline_parallel_size: int = Field(
        1, ge=1, description="groups of GPUs that the layers of a vLLM engine are dealt out to"
    )
    rank_timeout_seconds: float = Field(
        1800, gt=0, description="under torchrun: how long a rank waits for another, then fails"
    )
    judge_server: JudgeServerRuntime = Field(
        default_factory=JudgeServerRuntime, description="calls to the server of an llm judge"
    )
    sampler_server: SamplerServerRuntime = Field(
        default_factory=SamplerServerRuntime, description="calls to the server of a sampler"
    )

    def batches(self, names: Sequence[str]) -> dict[str, int]:
        """The batch sizes of these names that are not the default ones."""
        fields = type(self).model_fields
        sizes = {name: int(getattr(self, name)) for name in names}
        return {name: size for name, size in sizes.items() if size != fields[name].default}


class Task(Protocol):
    """One line of progress."""

    def advance(self, units: int = 1) -> None:
        """Count `units` more as done."""

    def metrics(self, values: Mapping[str, float | int | str]) -> None:
        """Show the newest values of a training step or a running count."""


class Progress(Protocol):
    """What a stage tells the person who waits. Never part of the result."""

    def task(self, title: str, total: int | None, unit: str) -> AbstractContextManager[Task]:
        """Open a line of progress over `total` units (None where nobody knows)."""

    def note(self, message: str) -> None:
        """Say something worth knowing."""

    def warn(self, message: str) -> None:
        """Say something that may spoil the result; also kept in the manifest."""


class _SilentTask:
    def advance(self, units: int = 1) -> None:
        """Nothing is shown."""

    def metrics(self, values: Mapping[str, float | int | str]) -> None:
        """Nothing is shown."""


class SilentProgress:
    """Shows nothing, keeps warnings: for tests and for use as a library."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    @contextmanager
    def task(self, title: str, total: int | None, unit: str) -> Iterator[Task]:
        """A task that shows nothing."""
        yield _SilentTask()

    def note(self, message: str) -> None:
        """Nothing is shown."""

    def warn(self, message: str) -> None:
        """Keep the warning in `warnings`."""
        self.warnings.append(message)


def _nobody_asks(missing: str) -> None:
    pass


def _discard_now(*paths: Path) -> None:
    for path in paths:
        remove(path)


@dataclass(frozen=True)
class StageContext:
    """Where a stage reads and writes.

    `inputs` maps the upstream stages of this recipe to their finished directories; a stage that
    the recipe leaves out is not in it. `output` is the stage's own directory while it is being
    made: whatever an interrupted run with the same fingerprint left there is still in it. A stage
    calls `discard` with what it only needed to go on after an interruption; in a run it is removed
    when it is on record that the stage is finished. With `is_missing` it says what it could not do:
    it is done for those that read it, and the same command tries again.
    """

    inputs: Mapping[str, Path]
    output: Path
    runtime: Runtime = field(default_factory=Runtime)
    progress: Progress = field(default_factory=SilentProgress)
    discard: Callable[..., None] = _discard_now
    is_missing: Callable[[str], None] = _nobody_asks

    def has(self, stage: str) -> bool:
        """Whether the recipe has that upstream stage."""
        return stage in self.inputs

    def input(self, stage: str, name: str) -> Path:
        """Path of a file or folder that an upstream stage wrote.

        Raises:
            MissingInputError: the recipe has no such stage, or the stage wrote no such file.
            DataError: what a stage has written down leads out of its folder.
        """
        if stage not in self.inputs:
            raise MissingInputError(f"the recipe has no [{stage}], which writes {name}")
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(f"{self.inputs[stage]}: {name} leads out of it; run {stage} again")
        path = self.inputs[stage] / name
        if not path.exists():
            raise MissingInputError(f"{path}: missing; run the stage {stage} again")
        return path

    def beside(self, name: str) -> Path | None:
        """A file of the run that no stage wrote; None where it is not there."""
        path = self.output.parent / name
        return path if path.is_file() else None


C = TypeVar("C", bound=Config)


def _no_files(config: Any) -> Sequence[Path]:
    return ()


def _no_names(config: Any) -> Sequence[str]:
    return ()


def _no_bill(config: Any, shape: Any, runtime: Any, device: str) -> Bill | None:
    return None


def _never(config: Any) -> bool:
    return False


def _nobody_knows(config: Any, known: Known) -> Work | None:
    return None


Content = Callable[[Path], str | None]
"""The hash of what others may depend on in an output; None where that is all of it."""


def _all_of_it(path: Path) -> str | None:
    return None


def implementation(name: str) -> Any:
    """What does the work of a kind, as `module:name`, imported now.

    Settings load nothing heavy, since commands that do no work read them too.
    """
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def content_later(module: str, function: str) -> Content:
    """A stage's `content` that is imported when it is called."""

    def content(path: Path) -> str | None:
        found: str | None = implementation(f"{module}:{function}")(path)
        return found

    return content


def _nothing(config: Any) -> None:
    return None


def called_later(module: str, function: str) -> Callable[[Any, "StageContext"], Mapping[str, int]]:
    """A stage's `run` that is imported when it is called: a declaration loads nothing heavy."""

    def run(config: Any, context: StageContext) -> Mapping[str, int]:
        done: Mapping[str, int] = implementation(f"{module}:{function}")(config, context)
        return done

    return run


# A folder of a stage's directory that the stage alone reads again: no output, and in no manifest.
RESUME_FOLDER = "resume"


@dataclass(frozen=True)
class Stage(Generic[C]):
    """A function from (config, input directories) to an output directory, and its declaration.

    `run` returns counts for the manifest. `files` names the raw files a config reads from outside
    the run directory: their content is part of the fingerprint. `beside` names files of the run
    directory that no stage writes, which a config reads where they are there, and whose content is
    part of it too. `work` says beforehand how much
    there will be to do. `trains` tells whether a config trains a model, which several processes
    can do together under torchrun; the code is then run by all of them. `continuation` gives what
    of a config must stay as it is so that a run can go on where one with another config ended, and
    None where it cannot; the stage then finds in its directory what that one has left, of which
    `continues_from` is the folder that there must be. `reuses` is a folder of pieces of work, each
    named by all that it depends on: a run with other settings takes over what is in it. `content`
    tells what of an output is about the machine and the hour, which nothing downstream depends on.
    `batches` names the batch sizes of `Runtime` that its numbers depend on in their last bits.
    `memory` gives the bill of its process from the shape of the model that it works with, on a
    device; `model` is that model's source in a config, None where it comes from another stage.
    """

    name: str
    summary: str
    config: type[C]
    inputs: tuple[str, ...]
    run: Callable[[C, StageContext], Mapping[str, int]]
    version: int = 1
    files: Callable[[C], Sequence[Path]] = _no_files
    beside: Callable[[C], Sequence[str]] = _no_names
    work: Callable[[C, Known], Work | None] = _nobody_knows
    trains: Callable[[C], bool] = _never
    continuation: Callable[[C], Mapping[str, Any] | None] = _nothing
    continues_from: str = RESUME_FOLDER
    reuses: str | None = None
    content: Content = _all_of_it
    batches: tuple[str, ...] = ()
    model: Callable[[C], Any] = _nothing
    memory: Callable[[C, Any, Runtime, str], Bill | None] = _no_bill
