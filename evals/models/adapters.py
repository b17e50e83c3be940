"""PEFT adapters as folders: which model they lie on, and what is on record of it.

An adapter says by a path or hub id what its base is, and means that model's weights. What training
saves says it by content too: `base_model.json` has the fingerprint of the base, and a base of the
same run is named by its place there, so that a run can be moved, and runs of one recipe are alike
wherever they lie.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from evals.models.hub import is_path
from schemas.errors import DataError, MissingInputError
from schemas.files import first_line, write_json

ADAPTER_CONFIG = "adapter_config.json"
BASE_RECORD = "base_model.json"
# How far above an adapter its run directory may be: RUN/round-2/train/checkpoints/step-3.
_HIGHEST = 6


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter."""
    return (folder / ADAPTER_CONFIG).is_file()


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """An adapter's own configuration.

    Raises:
        DataError: it cannot be read, or names no base.
    """
    path = folder / ADAPTER_CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        named = config["base_model_name_or_path"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: is not an adapter's configuration ({first_line(error)}); save the adapter "
            "again"
        ) from error
    if not isinstance(named, str) or not named:
        raise DataError(f"{path}: base_model_name_or_path names no model; save the adapter again")
    return config


def locate_base(folder: Path, fingerprint_of: Callable[[str, str | None], str]) -> str:
    """The base of an adapter: a folder that is there, else a hub id.

    Args:
        folder: the adapter's.
        fingerprint_of: the fingerprint of a model folder, or of a hub id at a revision.

    Raises:
        DataError: the folders that could be the base have other weights than it was trained on.
        MissingInputError: it is a folder's path, and none is there.
    """
    config = read_adapter_config(folder)
    named, revision = str(config["base_model_name_or_path"]), config.get("revision")
    there = list(dict.fromkeys(_candidates(folder, named)))
    recorded = recorded_base(folder)
    if not there:
        # A base of this run is named like a hub's, and is at no commit of one.
        if is_path(named) or (
            recorded is not None and not (revision and fingerprint_of(named, revision) == recorded)
        ):
            raise MissingInputError(
                f"{folder / ADAPTER_CONFIG}: its base model {named} is not there; put it back, or "
                "correct base_model_name_or_path"
            )
        return named
    if recorded is None:
        return str(there[0])
    for candidate in there:
        if fingerprint_of(str(candidate), None) == recorded:
            return str(candidate)
    raise DataError(
        f"{folder}: its base model {there[0]} has other weights than the adapter was trained on; "
        "put the old ones back, or train again"
    )


def recorded_base(folder: Path) -> str | None:
    """The fingerprint of the base that an adapter was trained on; None where nobody wrote it down.

    Raises:
        DataError: the record cannot be read.
    """
    record = _base_record(folder)
    return None if record is None else str(record["fingerprint"])


def is_on_four_bits(folder: Path) -> bool:
    """Whether an adapter was trained on its base in 4 bits. Raises as `recorded_base`."""
    record = _base_record(folder)
    return record is not None and record.get("weights") == "nf4"


def _base_record(folder: Path) -> dict[str, Any] | None:
    path = folder / BASE_RECORD
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        record["fingerprint"]
        return record
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: cannot be read ({first_line(error)}); train the adapter again"
        ) from error


def _candidates(folder: Path, named: str) -> Iterator[Path]:
    """Model folders that a name may mean: as it stands, and seen from above the adapter."""
    plain = Path(named).expanduser()
    if not plain.is_absolute() and ".." not in plain.parts:
        for above in list(folder.absolute().parents)[:_HIGHEST]:
            if _is_model(above / plain) and (above / plain) != folder.absolute():
                yield above / plain
    if _is_model(plain) and plain.absolute() != folder.absolute():
        yield plain


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def record_base(
    folder: Path,
    base: str,
    revision: str | None,
    fingerprint: str,
    run: Sequence[Path],
    weights: str | None = None,
) -> None:
    """Say in a new adapter's folder what it lies on; a model that is no adapter is left alone.

    Args:
        folder: what was just saved.
        base: path or hub id of the model that it was trained on.
        revision: the commit of a hub's.
        fingerprint: of its weights.
        run: the folders of the run that training read; a base in one of them is named by its place
            in the run.
        weights: the number format of the base in training, where it is not rounding alone (nf4):
            whoever opens the adapter opens its base likewise.
    """
    if not is_adapter(folder):
        return
    config = read_adapter_config(folder)
    name = _place_in_run(Path(base), run) or base
    card = folder / "README.md"
    if card.is_file():
        said = str(config["base_model_name_or_path"])
        card.write_text(card.read_text(encoding="utf-8").replace(said, name), encoding="utf-8")
    config |= {"base_model_name_or_path": name, "revision": revision}
    if isinstance(config.get("target_modules"), list):  # written from a set, in any order
        config["target_modules"] = sorted(config["target_modules"])
    write_json(folder / ADAPTER_CONFIG, config, sort_keys=True)
    how = {} if weights is None else {"weights": weights}
    write_json(folder / BASE_RECORD, {"fingerprint": fingerprint, **how})


def _place_in_run(base: Path, run: Sequence[Path]) -> str | None:
    inside = next((f for f in run if base.absolute().is_relative_to(f.absolute())), None)
    return None if inside is None else os.path.relpath(base.absolute(), inside.absolute().parent)
