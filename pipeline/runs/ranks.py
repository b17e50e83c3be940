"""One stage on all ranks of a torchrun: rank 0 keeps the run directory, the others help it train.

A helper runs the stage's code on the same inputs and writes into a folder that is thrown away.
"""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pipeline.recipe import Recipe
from schemas.errors import BackendError, ConfigError, PipelineError
from schemas.stage import Stage, StageContext

if TYPE_CHECKING:
    from stages.training.distributed.world import World

Result = TypeVar("Result")
Lead = Callable[[Stage[Any]], Result]

_HELP, _END = "help", "end"


def on_several_ranks() -> bool:
    """Whether torchrun has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def leave(code: int) -> NoReturn:
    """End a rank that is done, without taking the interpreter apart.

    Gloo's threads may be destroyed in the wrong order there, which aborts a process whose work is
    done and makes torchrun report a failure.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextmanager
def said_once() -> Iterator[None]:
    """For checks that all ranks make alike: only rank 0 says what is wrong, the others end."""
    try:
        yield
    except PipelineError:
        if on_several_ranks() and os.environ["RANK"] != "0":
            raise SystemExit(2) from None
        raise


@said_once()
def refuse_several_ranks(command: str) -> None:
    """Raises ConfigError under torchrun: `command` is one process."""
    if on_several_ranks():
        raise ConfigError(
            f"prefline {command} does not train, so torchrun has nothing to share among "
            f"{os.environ['WORLD_SIZE']} processes: run it without torchrun, then "
            "`torchrun ... -m pipeline train` (or sft, judge) for the training alone"
        )


def execute_on_ranks(stage: Stage[Any], recipe: Recipe, lead: Lead[Result]) -> Result | None:
    """Bring a stage up to date with all ranks.

    Args:
        stage: what to run.
        recipe: the same on every rank.
        lead: what rank 0 does with the stage it is given: lock, decide, run, publish.

    Returns:
        What `lead` returned, on rank 0; None on the others.

    Raises:
        PipelineError: on the one rank that failed first.
        SystemExit: on all others.
    """
    from stages.training.distributed.rank_coordination import last_words
    from stages.training.distributed.stopping import stopping_in_time
    from stages.training.distributed.world import joined_world

    config = recipe.stages.get(stage.name)
    if config is not None and not stage.trains(config):
        refuse_several_ranks(stage.name)
    with ExitStack() as stack:
        with said_once():
            world = stack.enter_context(joined_world(recipe.runtime))
        stack.enter_context(stopping_in_time(last_words(world)))
        try:
            if world.is_main:
                return _lead(world, stage, lead)
            _help(world, stage, recipe)
            return None
        except (Exception, KeyboardInterrupt) as error:
            raise _blamed(world, error) from error


def _lead(world: "World", stage: Stage[Any], lead: Lead[Result]) -> Result:
    from stages.training.distributed.rank_coordination import leading, tell

    words = count()

    def run(config: Any, context: StageContext) -> Mapping[str, int]:
        inputs = {name: str(path.resolve()) for name, path in context.inputs.items()}
        word = {"do": _HELP, "inputs": inputs, "config": config.model_dump_json()}
        tell(world, next(words), json.dumps(word))
        return stage.run(config, context)

    with leading(world):
        result = lead(replace(stage, run=run))
        tell(world, next(words), json.dumps({"do": _END}))
        world.agree(None)
    return result


def _help(world: "World", stage: Stage[Any], recipe: Recipe) -> None:
    from stages.training.distributed.rank_coordination import hear

    patience = recipe.runtime.rank_timeout_seconds
    word = json.loads(hear(world, 0, patience))
    if word["do"] == _HELP:
        inputs = {name: Path(path) for name, path in word["inputs"].items()}
        _refuse_unseen(world, inputs)
        with tempfile.TemporaryDirectory(prefix="prefline-rank-") as folder:
            runtime = recipe.runtime.model_copy(update={"reporters": ()})
            context = StageContext(inputs, Path(folder), runtime)
            stage.run(stage.config.model_validate_json(word["config"]), context)
        hear(world, 1, patience)
    world.agree(None)


def _refuse_unseen(world: "World", inputs: Mapping[str, Path]) -> None:
    for path in inputs.values():
        if not path.exists():
            raise ConfigError(
                f"rank {world.rank} on {os.uname().nodename}: {path} is not there; put the run "
                "directory on a file system that all nodes share"
            )


def _blamed(world: "World", error: BaseException) -> BaseException:
    """What a failing rank raises: the reason where it is the first to fail, else a silent end."""
    from stages.training.distributed.rank_coordination import (
        RESUME,
        TOLD_TO_STOP,
        fails_first,
        is_lost_contact,
    )

    # torchrun stops the ranks that are left when one ends; this one is ending already.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if isinstance(error, KeyboardInterrupt):
        error = BackendError(TOLD_TO_STOP.format(rank=world.rank))
    elif is_lost_contact(error):
        error = BackendError(
            f"rank {world.rank}: another rank is gone or does not answer; {RESUME}"
        )
    elif isinstance(error, PipelineError) and not world.is_main:
        with suppress(TypeError):
            error = type(error)(f"rank {world.rank}: {error}")
    return error if fails_first(world, str(error)) else SystemExit(2)
