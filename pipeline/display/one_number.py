"""The one number of a finished stage that says most about it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from schemas.manifest import Manifest


def one_number(stage: str, directory: Path, manifest: Manifest | None) -> str:
    """In words, such as `1,200 pairs` or `win rate 62.5%`; empty where there is none."""
    if manifest is None or manifest.skipped:
        return ""
    reader = _READERS.get(stage)
    found = reader(directory, manifest.counts) if reader else ""
    return found or _first_count(stage, manifest.counts)


_COUNTS = {
    "ingest": ("comparisons", "prompts"),
    "sft": ("steps",),
    "judge": ("verdicts",),
    "sample": ("completions",),
    "label": ("pairs",),
    "train": ("steps",),
    "evaluate": ("verdicts", "benchmarks"),
    "report": ("warnings",),
}


def _first_count(stage: str, counts: Mapping[str, int]) -> str:
    wanted = (*_COUNTS.get(stage, ()), *counts)
    name = next((one for one in wanted if one in counts), None)
    return f"{counts[name]:,} {name.replace('_', ' ')}" if name else ""


def _judge(directory: Path, counts: Mapping[str, int]) -> str:
    accuracy = (_json(directory / "card.json").get("accuracy") or {}).get("value")
    return "" if accuracy is None else f"accuracy {accuracy:.1%} on held-out labels"


def _train(directory: Path, counts: Mapping[str, int]) -> str:
    step = counts.get("published_step")
    return "" if step is None else f"step {step:,} of {counts.get('steps', step):,} published"


def _evaluate(directory: Path, counts: Mapping[str, int]) -> str:
    rates = _json(directory / "win_rates.json")
    headline = (rates.get("judge") or {}).get("headline") or {}
    if headline.get("value") is None:
        return ""
    ends = (headline.get("ci_low"), headline.get("ci_high"))
    interval = "" if None in ends else f" ({ends[0]:.1%} to {ends[1]:.1%})"
    return f"win rate {headline['value']:.1%}{interval}"


_READERS: Mapping[str, Callable[[Path, Mapping[str, int]], str]] = {
    "judge": _judge,
    "train": _train,
    "evaluate": _evaluate,
}


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
