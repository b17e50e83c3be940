"""Which sections the page has, and the sentence about those that it does not."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stages.report.gather.sources import Json
from stages.report.page.wording import STAGE_WORDS


@dataclass(frozen=True)
class Section:
    """A section that is there where it has something to show.

    `of` names the stages that fill it: where the recipe has none of them the section was not asked
    for; else `empty` says what they left undone.
    """

    anchor: str
    name: str
    of: tuple[str, ...]
    filled: Callable[[Json], object]
    empty: str = ""


SECTIONS = (
    Section("warnings", "Warnings", (), lambda s: s["warnings"]),
    Section(
        "win", "Win rate", ("evaluate",),
        lambda s: s["win_rate"] or s["benchmarks"]["tasks"], "evaluate compared nothing",
    ),
    Section("rounds", "Rounds", (), lambda s: s["rounds"]),
    Section(
        "training", "Training", ("train", "sft"),
        lambda s: s["training"] or s["other_training"], "training logged no metrics",
    ),
    Section(
        "ingested", "Data", ("ingest",),
        lambda s: s["data"].get("n") or s["data"].get("rejects"), "ingest wrote no comparisons",
    ),
    Section(
        "data", "Pairs", ("ingest", "label"),
        lambda s: s["preference_data"]["n"], "there are no preference pairs",
    ),
    Section(
        "outputs", "Outputs", ("evaluate",),
        lambda s: s["outputs"]["models"], "evaluate wrote no completions",
    ),
    Section("judge", "Judge", ("judge",), lambda s: s["judge"], "the judge stage wrote no card"),
    Section(
        "examples", "Examples", ("evaluate",),
        lambda s: s["examples"]["random"] or s["examples"]["doubtful"], "no examples were drawn",
    ),
    Section(
        "verdicts", "Verdicts", ("evaluate",),
        lambda s: s["verdicts"]["entries"], "no verdicts were listed",
    ),
    Section("cost", "Cost", (), lambda s: s["spent"]),
    Section("flow", "Counts", (), lambda _: True),
    Section("settings", "Settings", (), lambda s: s["settings"]),
    Section("provenance", "Provenance", (), lambda _: True),
)  # fmt: skip


def shown(summary: Json) -> dict[str, str]:
    """The sections that have something to show: anchor -> name."""
    return {one.anchor: one.name for one in SECTIONS if one.filled(summary)}


def absent(summary: Json) -> str:
    """What is not on the page and why, in a sentence; empty where everything is."""
    missing = [name for name in STAGE_WORDS if summary["stages"][name]["skipped"]]
    asked = [s for s in SECTIONS if s.empty and set(s.of) - {*missing}]
    undone = [section.empty for section in asked if not section.filled(summary)]
    parts = [f"this recipe has no {_listed(f'[{name}]' for name in missing)}"] if missing else []
    said = "; ".join([*parts, *undone])
    return f"Not on this page: {said}." if said else ""


def _listed(names: Iterable[str]) -> str:
    *rest, last = names
    return f"{', '.join(rest)} and no {last}" if rest else last
