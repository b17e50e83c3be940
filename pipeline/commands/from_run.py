"""The next training from what another run has trained."""

import json
import tomllib
from pathlib import Path

from pipeline.commands.options import shipped_or
from schemas.errors import ConfigError, DataError, MissingInputError
from schemas.manifest import read_manifest

_ROUNDS = "round-*"


def start_from(start: Path, run_dir: Path | None, recipe: Path) -> list[str]:
    """The settings, as `--set` takes them, with which a recipe starts from a run's last policy.

    That is the policy or adapter that its train has published, of the last round where there are
    several. It is sampled, trained on and the baseline; nothing of the other run is done again.

    Raises:
        MissingInputError: the run has trained nothing.
        ConfigError: it is the run that is to be made.
    """
    if run_dir is not None and run_dir.resolve() == start.resolve():
        raise ConfigError(f"--from {start}: is this run itself; name another --run-dir")
    model = _published(start)
    if model is None:
        raise MissingInputError(
            f"--from {start}: no training is finished there; give the directory of a run whose "
            "train is, such as runs/NAME"
        )
    source = json.dumps({"path": str(model)})
    sampled = [f"sample.model={source}"] if _samples(recipe) else []
    return ["sft=null", f"train.model={source}", *sampled]


def _samples(recipe: Path) -> bool:
    """Whether a recipe samples its policy; one that cannot be read is told by who checks it."""
    try:
        return "sample" in tomllib.loads(shipped_or(recipe).read_text())
    except (OSError, ValueError):
        return False


def _published(start: Path) -> Path | None:
    rounds = sorted(start.glob(_ROUNDS), key=_number)
    for folder in [*reversed(rounds), start]:
        try:
            manifest = read_manifest(folder / "train")
        except DataError:
            manifest = None
        if manifest is not None and (folder / "train" / "model").is_dir():
            return folder / "train" / "model"
    return None


def _number(folder: Path) -> int:
    last = folder.name.rpartition("-")[2]
    return int(last) if last.isdigit() else 0
