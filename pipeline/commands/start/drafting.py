"""A recipe from what a person has: data, a model, a judge, and this machine."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.files.opening.formats import format_of
from evals.files.opening.places import is_remote
from evals.files.opening.remote import data_files
from evals.files.outputs.rows import file_rows
from evals.judges.judge_spec import judge_settings
from schemas.errors import ConfigError, DataError, MissingInputError
from stages.ingest.datasets.detect_format import guess
from stages.ingest.datasets.open import open_dataset
from stages.ingest.readers.columns import default_settings
from stages.ingest.readers.raw_rows import RawRow

PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "hh": {"kind": "hh", "hub_id": "Anthropic/hh-rlhf"},
    "helpsteer3": {
        "kind": "helpsteer3",
        "hub_id": "nvidia/HelpSteer3",
        "hub_subset": "preference",
    },
    "ultrafeedback": {
        "kind": "ultrafeedback",
        "hub_id": "argilla/ultrafeedback-binarized-preferences",
    },
}
"""Data sets that are known by a word."""

_FEW, _MANY = 1_000, 20_000
# What the size of the data decides: share held out, batch, passes.
_SIZES = ((_FEW, 0.2, 8, 3), (_MANY, 0.1, 32, 1))
_LARGE = (0.05, 64, 1)


def dataset_settings(
    data: str, path: Path | None = None, columns: str | None = None
) -> dict[str, Any]:
    """The entry of [[ingest.datasets]] that reads some data.

    Args:
        data: hh, helpsteer3 or ultrafeedback, or a file, folder or address.
        path: where a data set that is known by a word lies; None takes the hub.
        columns: which column is what, as chosen=good,rejected=bad.

    Raises:
        MissingInputError: there is no such file.
        ConfigError: nobody knows how to read its rows, or `columns` are written otherwise.
        DataError: the file is empty, or a table's columns are others than its kind and `columns`
            say.
        BackendError: a store cannot be reached.
    """
    named = {} if columns is None else _named_columns(columns)
    if data in PUBLISHED:
        settings = dict(PUBLISHED[data])
        if path is not None:
            _existing(path)
            settings = {"kind": settings["kind"], "path": str(path)}
        return settings | ({"columns": named} if named else {})
    if path is not None:
        raise ConfigError(f"--path: is for {', '.join(PUBLISHED)}; {data} is a path itself")
    place = data_files(data)[0][1] if is_remote(data) else _existing(Path(data))
    if place.is_file() and not place.stat().st_size:
        raise DataError(f"{data}: the file is empty; fetch it again or name another")
    own = _own_kind(place)
    known = _kind(place) if place.is_file() and own != "arrow" else None
    settings = {"kind": known or own, "path": data} | ({"columns": named} if named else {})
    if place.is_file() and own in ("csv", "parquet"):
        _refuse_other_columns(data, place, settings)
    return settings


def _named_columns(said: str) -> dict[str, str]:
    pairs = [one.partition("=") for one in said.split(",")]
    if not all(ours.strip() and theirs.strip() for ours, _, theirs in pairs):
        raise ConfigError(f"--columns {said}: write chosen=good,rejected=bad, ours first")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


def _refuse_other_columns(data: str, place: Path, settings: Mapping[str, Any]) -> None:
    """All rows of a table have the columns of its first one: what ingest would say, at once."""
    first = next((row for _, row in file_rows(place)), None)
    if first is not None:
        config = default_settings(str(settings["kind"])).model_copy(
            update={"columns": settings.get("columns", {})}
        )
        open_dataset(config).check_columns(data, list(first))


def _own_kind(place: Path) -> str:
    """The kind that reads people's own rows in this file, or in the files of this folder."""
    if place.is_file() and _opens_like_parquet(place):
        return "parquet"
    first = place if place.is_file() else next(iter(sorted(place.rglob("*.arrow"))), Path())
    format_ = format_of(first)
    return "jsonl" if format_ == "json" else format_


def _opens_like_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _existing(path: Path) -> Path:
    place = path.expanduser()
    if not place.exists():
        raise MissingInputError(
            f"{path}: no such file or folder; give one, or one of {', '.join(PUBLISHED)}"
        )
    return place


def _kind(path: Path) -> str | None:
    """The published kind whose shape the first row has; None for people's own formats."""
    first = next((row for _, row in file_rows(path)), None)
    kind = guess(RawRow(str(path), 0, first))[0] if first is not None else None
    return None if kind in (None, "jsonl") else kind


def rows_in(settings: Mapping[str, Any]) -> int | None:
    """How many rows a local file has; None where that is not known."""
    path = Path(str(settings.get("path", ""))).expanduser()
    return sum(1 for _ in file_rows(path)) if settings.get("path") and path.is_file() else None


def has_gpu() -> bool:
    """Whether this machine has a GPU of NVIDIA's, as far as can be told without loading torch."""
    return shutil.which("nvidia-smi") is not None


def draft(
    *,
    name: str,
    dataset: Mapping[str, Any],
    model: str,
    judge: str | None,
    chat_template: str | None = None,
    beta: float = 0.1,
    learning_rate: float | None = None,
    lora_rank: int = 32,
) -> dict[str, Any]:
    """The recipe of LoRA DPO on pairs, with settings that fit the data's size and the machine.

    Without a judge the policy is measured by what it prefers among held-out pairs.

    Raises:
        ConfigError, MissingInputError: no such judge.
    """
    rows = rows_in(dataset)
    sized = next((s[1:] for s in _SIZES if rows is not None and rows <= s[0]), _LARGE)
    test_fraction, batch_size, epochs = sized
    gpu = has_gpu()
    source = {"path": model, "chat_template": chat_template}
    by = None if judge is None else judge_settings(judge)
    tree: dict[str, Any] = {"name": name, "description": f"LoRA DPO of {model}"}
    tree["hardware"] = "one GPU" if gpu else "CPU"
    tree["ingest"] = {"test_fraction": test_fraction, "datasets": [dict(dataset)]}
    if by is not None:
        settings = by.model_dump(mode="json", exclude_defaults=True)
        tree["judge"] = {"kind": by.kind, **settings}
    tree["train"] = {
        "model": source,
        "loss": {"kind": "sigmoid", "beta": beta},
        "training": {
            "learning_rate": learning_rate or 1e-4,
            "batch_size": batch_size,
            "num_epochs": epochs,
            "max_length": 2048 if gpu else 1024,
            "dtype": "bfloat16" if gpu else "float32",
            "lora": {"rank": lora_rank, "alpha": float(lora_rank)},
        },
    }
    tree["evaluate"] = {
        "max_prompts": 512 if gpu else 32,
        "max_tokens": 512 if gpu else 64,
        "temperature": 0.7,
        "tasks": ["preference_accuracy"],
    }
    tree["report"] = {"title": f"DPO of {Path(model).name}"}
    return tree
