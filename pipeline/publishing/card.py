"""The model card of a run, filled in from what its stages have written down."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evals.models.adapters import is_adapter
from evals.models.checkpoints import ModelSource
from evals.models.hub import is_path
from pipeline.publishing.numbers import Numbers
from schemas.errors import DataError
from schemas.manifest import Manifest, read_manifest

_CURVE_ROWS = 12
_WARNINGS = 8
_SPLITS = ("train", "dev", "test")


def model_card(run: Path, shared: Path, name: str, numbers: Numbers) -> str:
    """The card as Markdown. `shared` is where data and judge of the run's round 1 lie."""
    model = run / "train" / "model"
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template("card.md.jinja").render(
        front=_front(model, run),
        name=name.rpartition("/")[2],
        what=_what(model, run),
        results=results_section(numbers),
        judge=_judge(shared / "judge"),
        data=list(_data(_manifest(shared / "ingest"))),
        settings=list(_settings(_manifest(run / "train"))),
        curve=_curve(run / "train" / "metrics.jsonl"),
        limits=list(_limits(run, shared)),
    )


def results_section(numbers: Numbers) -> str:
    """The results as the card shows them: the same text for the same numbers."""
    lines = ["## Results", ""]
    if not numbers:
        return "\n".join([*lines, "No win rate was measured.", ""])
    lines += ["| by | win rate over the baseline | 95% interval | prompts | wins, ties, losses |"]
    lines += ["| --- | ---: | ---: | ---: | ---: |"]
    for role, found in numbers.items():
        counts = f"{found['n_wins']}, {found['n_ties']}, {found['n_losses']}"
        rate = _percent(found["win_rate"])
        ends = f"{_percent(found['ci_low'])} to {_percent(found['ci_high'])}"
        lines.append(f"| {role} ({found['judge']}) | {rate} | {ends} | {found['n']} | {counts} |")
    lines += ["", *(f"By the {role}: {found['statement']}" for role, found in numbers.items()), ""]
    return "\n".join(lines)


def base_of(model: Path) -> ModelSource | None:
    """What an adapter lies on; None for a whole model. Raises as `ModelSource.base`."""
    return ModelSource(path=str(model)).base if is_adapter(model) else None


def _started_from(model: Path, run: Path) -> ModelSource | None:
    """What was trained; None for the run's own."""
    named = (_config(run / "train").get("model") or {}).get("path")
    return base_of(model) or (None if named is None else ModelSource(path=str(named)))


def _front(model: Path, run: Path) -> str:
    """What hubs read: YAML, of which JSON values are a part."""
    found: dict[str, Any] = {
        "library_name": "peft" if is_adapter(model) else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["prefline", "dpo", "preference-training"],
    }
    start = _started_from(model, run)
    if start and not is_path(start.path) and not Path(start.path).is_dir():
        found["base_model"] = start.path
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in found.items())


def _what(model: Path, run: Path) -> str:
    config = _config(run / "train")
    loss = config.get("loss", {}).get("kind", "preference")
    kind = "A LoRA adapter" if is_adapter(model) else "A language model"
    start = (config.get("model") or {}).get("path") or "the run's own start"
    return f"{kind}, trained from {start} on preference pairs with the loss `{loss}`, by prefline."


def _judge(folder: Path) -> str:
    try:
        card = json.loads((folder / "card.json").read_text())
    except (OSError, ValueError):
        return ""
    accuracy, consistency = card.get("accuracy") or {}, card.get("position_consistency") or {}
    said = [f"`{card.get('judge')}`, of kind {card.get('kind')}."]
    if accuracy.get("value") is not None:
        said.append(
            f"On {accuracy['n']} held-out labels its accuracy is {_percent(accuracy['value'])} "
            f"({_percent(accuracy.get('ci_low'))} to {_percent(accuracy.get('ci_high'))})."
        )
    if consistency.get("value") is not None:
        said.append(
            f"It gives the same verdict in both orders in {_percent(consistency['value'])}."
        )
    return " ".join(said)


def _data(manifest: Manifest | None) -> Iterator[str]:
    if manifest is None:
        yield "not on record"
        return
    for dataset in manifest.payload.get("config", {}).get("datasets", []):
        place = dataset.get("hub_id") or Path(str(dataset.get("path") or "")).name or "generated"
        yield f"{dataset['kind']}: {place}"
    counts = manifest.counts
    for what in ("comparisons", "demonstrations", "prompts"):
        splits = ", ".join(f"{s} {counts.get(f'{what}/{s}', 0):,}" for s in _SPLITS)
        if counts.get(what):
            yield f"{counts[what]:,} {what} ({splits})"
    rejected = {k: n for k, n in counts.items() if k.startswith("rejected_") and n}
    reasons = ", ".join(f"{k.removeprefix('rejected_')} {n:,}" for k, n in rejected.items())
    yield f"{counts.get('rejects', 0):,} rows rejected{f': {reasons}' if reasons else ''}"


def _settings(manifest: Manifest | None) -> Iterator[str]:
    if manifest is None:
        return
    config = manifest.payload.get("config", {})
    training = config.get("training", {})
    for where, values in (("loss", config.get("loss", {})), ("training", training)):
        for key, value in values.items():
            if value is not None and not isinstance(value, Mapping):
                yield f"`{where}.{key}` = {json.dumps(value)}"
    for key, value in (training.get("lora") or {}).items():
        yield f"`training.lora.{key}` = {json.dumps(value)}"
    yield f"{manifest.counts.get('steps', 0):,} steps on {manifest.counts.get('train', 0):,} pairs"


def _curve(path: Path) -> list[Sequence[str]]:
    """Step, held-out loss and accuracy, thinned evenly."""
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError):
        return []
    measured = [row for row in rows if row.get("eval_loss") is not None]
    every = max(1, -(-len(measured) // _CURVE_ROWS))
    kept = measured[::every] + (measured[-1:] if (len(measured) - 1) % every else [])
    return [
        (
            f"{row['step']:,}",
            f"{row['eval_loss']:.4f}",
            _percent(row.get("eval_rewards/accuracies")),
        )
        for row in kept
    ]


def _limits(run: Path, shared: Path) -> Iterator[str]:
    yield "The win rate is the judge's, on this run's own held-out prompts, of one training run."
    said = [
        warning
        for folder in (shared / "ingest", shared / "judge", run / "train", run / "evaluate")
        for warning in getattr(_manifest(folder), "warnings", [])
    ]
    for warning in list(dict.fromkeys(said))[:_WARNINGS]:
        yield " ".join(warning.split())


def _config(folder: Path) -> Mapping[str, Any]:
    manifest = _manifest(folder)
    found: Mapping[str, Any] = manifest.payload.get("config") or {} if manifest else {}
    return found


def _manifest(folder: Path) -> Manifest | None:
    try:
        return read_manifest(folder)
    except DataError:
        return None


def _percent(value: float | None) -> str:
    return "?" if value is None else f"{value:.1%}"
