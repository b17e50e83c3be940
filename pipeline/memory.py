"""The bill before the run: what each stage will take in memory, and what to change if it lacks."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.memory.shape import ModelShape, NoShape, shape_of_model
from evals.models.checkpoints import ModelSource
from pipeline.display.terminal_text import say
from pipeline.recipe import Recipe
from pipeline.stage_registry import BY_NAME, STAGES
from schemas.errors import PipelineError
from schemas.work import Bill


@dataclass(frozen=True)
class Machine:
    """Where stages compute: `cpu` or `cuda`, and the bytes that there are; None: not known."""

    device: str
    room: int | None


@dataclass(frozen=True)
class StageBill:
    """What a stage takes on a machine; `bill` is None where nobody can say, `reason` why."""

    stage: str
    bill: Bill | None
    machine: Machine
    reason: str = ""

    @property
    def fits(self) -> bool | None:
        """Whether there is room for it; None where nobody can say."""
        if self.bill is None or self.machine.room is None:
            return None
        return self.bill.total <= self.machine.room

    @property
    def change(self) -> tuple[str, int] | None:
        """The first setting that makes it fit, else the one that takes least; with its bytes."""
        if self.bill is None or self.machine.room is None or not self.bill.cheaper:
            return None
        found = self.bill.cheaper.items()
        fitting = (one for one in found if one[1] <= (self.machine.room or 0))
        return next(fitting, min(found, key=lambda one: one[1]))

    def lines(self) -> Iterator[str]:
        """What to print."""
        if self.bill is None:
            yield f"{self.stage}: memory is not known: {self.reason}"
            return
        parts = ", ".join(f"{name} {_gb(size)}" for name, size in self.bill.parts.items())
        yield f"{self.stage}: {_gb(self.bill.total)} GB ({parts}; {self.bill.about})"
        if self.fits is False:
            room, there = _gb(self.machine.room or 0), _NAMES[self.machine.device]
            said = f"{self.stage}: does not fit the {room} GB of this machine's {there}"
            if self.change:
                setting, size = self.change
                said += f"; with {_setting(self.stage, setting)} it takes {_gb(size)}"
            yield said
        if self.bill.refusal:
            yield f"{self.stage}: items as long as that will be refused: {self.bill.refusal}"

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        bill, change = self.bill, self.change
        return {
            "device": self.machine.device,
            "room_bytes": self.machine.room,
            "bytes": None if bill is None else bill.total,
            "parts": {} if bill is None else dict(bill.parts),
            "about": self.reason if bill is None else bill.about,
            "fits": self.fits,
            "change": change[0] if change and self.fits is False else None,
            "refusal": bill.refusal if bill else "",
        }


def show_bills(recipe: Recipe) -> None:
    """Print the memory of every stage that loads a model, a line each."""
    for one in bills(recipe):
        for line in one.lines():
            say(line)


_NAMES = {"cpu": "memory", "cuda": "GPU"}


def _setting(stage: str, change: str) -> str:
    if change.startswith("runtime."):
        return change
    where = "judge.training" if stage == "judge" else f"{stage}.training"
    return f"{where}.{change}".replace(" and ", f" and {where}.")


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f}" if size >= 1e9 else f"{size / 1e9:.2f}"


def bills(recipe: Recipe, machine: Machine | None = None) -> list[StageBill]:
    """The bills of the stages that load a model, in their order."""
    found = machine or this_machine(recipe.runtime.device)
    return [
        bill
        for stage in STAGES
        if stage.name in recipe.stages
        for bill in _bill(recipe, stage.name, found)
    ]


def _bill(recipe: Recipe, name: str, machine: Machine) -> Iterator[StageBill]:
    """One bill; none for a stage that loads no model here."""
    stage, config = BY_NAME[name], recipe.stages[name]
    shape = _shape(stage.model(config)) or _shape_of_start(recipe, name)
    known = shape if isinstance(shape, ModelShape) else _ANY_SHAPE
    bill = stage.memory(config, known, recipe.runtime, machine.device)
    if bill is None:
        return
    if isinstance(shape, ModelShape):
        yield StageBill(name, bill, machine)
    else:
        yield StageBill(name, None, machine, shape.reason if shape else _NOT_HERE)


_NOT_HERE = "its model is not on this machine"
_ANY_SHAPE = ModelShape(64, 1, 2, 2, 32, 128, 256, 256)


def _shape_of_start(recipe: Recipe, name: str) -> ModelShape | NoShape | None:
    """Of what [sft] starts from, where the stage takes what [sft] makes."""
    if "sft" not in recipe.stages or BY_NAME[name].model(recipe.stages[name]) is not None:
        return None
    return _shape(BY_NAME["sft"].model(recipe.stages["sft"]))


def _shape(model: Any) -> ModelShape | NoShape | None:
    if isinstance(model, ModelSource):
        try:
            return shape_of_model(model)
        except PipelineError:
            return None
    return model if isinstance(model, ModelShape) else None


def this_machine(device: str) -> Machine:
    """The device that a runtime asks for; a GPU where there is one and none is asked for."""
    gpu = _gpu_room() if device != "cpu" else None
    if device == "cuda" or gpu is not None:
        return Machine("cuda", gpu)
    return Machine("cpu", cpu_room())


def _gpu_room() -> int | None:
    """Bytes of the first GPU, by its driver's program; None where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
        return int(said.stdout.split()[0]) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def cpu_room(root: Path = Path("/")) -> int | None:
    """Bytes of this machine, or of the container that this runs in."""
    found = []
    for path, read in _ROOMS.items():
        try:
            found.append(read((root / path).read_text(encoding="utf-8")))
        except (OSError, ValueError, IndexError):
            continue
    return min(found, default=None)


_ROOMS: Mapping[str, Any] = {
    "proc/meminfo": lambda text: int(text.split("MemTotal:")[1].split()[0]) * 1024,
    "sys/fs/cgroup/memory.max": int,
    "sys/fs/cgroup/memory/memory.limit_in_bytes": int,
}
