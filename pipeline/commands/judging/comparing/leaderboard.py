"""The leaderboard of a comparison, from the tables of its run."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from evals.win_rate.criteria import criterion_rates, rated_sides
from evals.win_rate.win_rate import win_rate
from pipeline.commands.judging.comparing.entrants import BASELINE, POLICY, Entrant
from pipeline.display.console import Console
from schemas.manifest import read_manifest
from schemas.parquet import read_rows
from schemas.tables import COMPLETIONS, REJECTS, VERDICTS

_TOKEN = re.compile(r"\w+|[^\w\s]")
WORDS = "words and punctuation marks"
OWN = "each model's own tokens"

Json = dict[str, Any]


def leaderboard(folder: Path, entered: Sequence[Entrant]) -> Json:
    """What a comparison came to, as plain JSON values; rates are in [0, 1].

    `rows`: every contender, those against the baseline by their win rate, the baseline itself last
    with the half that is its by definition; from three on each has an `elo`, the baseline 1000.
    `pairs`: every two, with p adjusted by Holm, and the `win_rate` of the first over the second
    where they were judged against each other.
    `unscored` counts verdicts, `n` prompts. `missing` names the prompts that were not compared.

    Args:
        folder: the evaluate stage's.
        entered: the contenders, by role.
    """
    names = {entrant.role: entrant.name for entrant in entered}
    rates = json.loads((folder / "win_rates.json").read_bytes())["judge"]
    written = {role: _completions(folder, role) for role in names}
    lengths, unit = _lengths(written)
    prompts = {row["prompt_id"] for rows in written.values() for row in rows}
    rows = [
        _row(folder, role, name, rates["judge"]) | {"mean_tokens": lengths[role]}
        for role, name in names.items()
        if role != BASELINE
    ]
    rows.sort(key=lambda row: (-(row["win_rate"] or 0.0), row["name"]))
    half = {"win_rate": 0.5, "ci_low": 0.5, "ci_high": 0.5, "n": len(prompts), "unscored": 0}
    rows.append({"name": names[BASELINE], **half, "mean_tokens": lengths[BASELINE]})
    elos = _elos(rates.get("ratings"), names)
    return {
        "baseline": names[BASELINE],
        "judge": rates["judge"],
        "rows": [row | elos.get(row["name"], _NO_ELO) for row in rows],
        "pairs": [_pair(pair, names) for pair in rates["differences"]],
        "ratings": _about_ratings(rates.get("ratings"), names),
        "standard": _standard(rates.get("standard"), names),
        "tokens_are": unit,
        "statement": rates["statement"],
        "missing": _missing(folder, names),
        "cost": _cost(folder),
    }


def _row(folder: Path, role: str, name: str, judge: str) -> Json:
    suffix = "" if role == POLICY else f"_{role}"
    verdicts = read_rows(folder / f"verdicts{suffix}.parquet", VERDICTS)
    own = [row for row in verdicts if row["judge"] == judge]
    found, sides = win_rate(own), rated_sides(own)
    keys = ("win_rate", "ci_low", "ci_high", "n")
    return {"name": name, **{key: getattr(found, key) for key in keys}} | {
        "unscored": found.n_unscored,
        "criteria": {name: r.to_json() for name, r in criterion_rates(own).items()},
        "mean_ratings": sides.to_json() if sides else None,
        "wins": found.n_wins,
        "losses": found.n_losses,
        "ties": found.n_ties,
    }


_NO_ELO: Json = dict.fromkeys(("elo", "elo_low", "elo_high"))


def _elos(ratings: Json | None, names: Mapping[str, str]) -> dict[str, Json]:
    """Rating and interval by the name for people."""
    return {
        names[one["name"]]: {
            "elo": one["elo"],
            "elo_low": one["ci_low"],
            "elo_high": one["ci_high"],
        }
        for one in (ratings or {}).get("models", ())
    }


def _about_ratings(ratings: Json | None, names: Mapping[str, str]) -> Json | None:
    """What the ratings rest on; None below three contenders."""
    if ratings is None:
        return None
    kept = ("n_pairs", "n_prompts", "penalised", "draws")
    return {"anchor": names[ratings["anchor"]]} | {key: ratings[key] for key in kept}


def _standard(found: Json | None, names: Mapping[str, str]) -> Json | None:
    """The scores by a standard set's own rules; None where there is no set."""
    if found is None:
        return None
    scores = [one | {"model": names.get(one["model"], one["model"])} for one in found["scores"]]
    return found | {"scores": scores}


def _completions(folder: Path, role: str) -> list[Json]:
    return read_rows(folder / f"completions_{role}.parquet", COMPLETIONS)


def _lengths(written: Mapping[str, Sequence[Json]]) -> tuple[dict[str, float | None], str]:
    """Mean length of each model's completions, and what it counts: one unit for all of them."""
    known = all(row["num_tokens"] is not None for rows in written.values() for row in rows)
    counted = {
        role: [row["num_tokens"] if known else _words(row["completion"]) for row in rows]
        for role, rows in written.items()
    }
    means = {role: sum(n) / len(n) if n else None for role, n in counted.items()}
    return means, OWN if known else WORDS


def _words(completion: Sequence[Mapping[str, str]]) -> int:
    own = (turn["content"] for turn in completion if turn["role"] == "assistant")
    return sum(len(_TOKEN.findall(text)) for text in own)


def _pair(pair: Mapping[str, Any], names: Mapping[str, str]) -> Json:
    found, direct = pair["difference"], pair.get("head_to_head") or {}
    return {
        "first": names[pair["first"]],
        "second": names[pair["second"]],
        "difference": found["value"],
        "ci_low": found["ci_low"],
        "ci_high": found["ci_high"],
        "n": found["n"],
        "p_value": pair["p_value"],
        "p_holm": pair["p_holm"],
        "verdict": pair["verdict"],
        "win_rate": direct.get("win_rate"),
        "win_rate_low": direct.get("ci_low"),
        "win_rate_high": direct.get("ci_high"),
    }


def _missing(folder: Path, names: Mapping[str, str]) -> list[Json]:
    """The prompts that a contender has no answer to."""
    rows = read_rows(folder / REJECTS.file_name, REJECTS)
    return [
        {
            "name": names.get(row["table"].removeprefix("completions_"), row["table"]),
            "reason": row["reason"],
            "file": row["file"],
            "row": row["row"],
            "prompt": row["raw"],
        }
        for row in rows
    ]


def _cost(folder: Path) -> float | None:
    """What the judge's verdicts have cost; None where it is free."""
    manifest = read_manifest(folder)
    spent = manifest.counts.get("judge_cost_millionths") if manifest else None
    return None if spent is None else spent / 1e6


def show_leaderboard(found: Json, console: Console) -> None:
    """Print the leaderboard, best first, and all pairs."""
    console.print(f"win rate against {found['baseline']}, judged by {found['judge']}", style="bold")
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("", overflow="fold")
    rated = ("Elo", "95% interval") if found["ratings"] else ()
    for column in ("win rate", "95% interval", *rated, "n", "unscored", "length"):
        table.add_column(column, justify="right", no_wrap=True)
    ranked = sorted(found["rows"], key=lambda row: -(row["win_rate"] or 0.0))
    for row in ranked:
        cells = _cells(row, row["name"] == found["baseline"])
        elo = _elo_cells(row) if rated else []
        table.add_row(row["name"], *cells[:2], *elo, *cells[2:])
    console.print(table)
    if found["ratings"]:
        console.print(_rated_words(found["ratings"]))
    for row in found["rows"]:
        if row.get("criteria"):
            console.print(_criteria_words(row, found["baseline"]))
    for pair in found["pairs"]:
        console.print(_pair_words(pair))
    if found["standard"]:
        _show_standard(found["standard"], console)
    for name, missing in _by_name(found["missing"]).items():
        first = ", ".join(f"{one['file']} row {one['row']}" for one in missing[:3])
        more = ", ..." if len(missing) > 3 else ""
        reason = missing[0]["reason"]
        words = reason.replace("_", " ")
        console.print(f"not compared: {len(missing)} prompts, {name}: {words} ({first}{more})")
    console.print(f"length: {found['tokens_are']}")
    if found["cost"] is not None:
        console.print(f"cost of the verdicts: {found['cost']:.4g}")
    console.print(f"page: {found['page']}")


def _cells(row: Json, is_baseline: bool) -> list[str]:
    if is_baseline:
        rate, interval = "50.0%", "the baseline"
    elif row["win_rate"] is None:
        rate, interval = "none", "nothing scored"
    else:
        rate = f"{row['win_rate']:.1%}"
        interval = f"{row['ci_low']:.1%} to {row['ci_high']:.1%}"
    length = "" if row["mean_tokens"] is None else f"{row['mean_tokens']:,.0f}"
    return [rate, interval, f"{row['n']:,}", f"{row['unscored']:,}", length]


def _show_standard(found: Json, console: Console) -> None:
    """The set's own scores, and what makes them others than those published."""
    low, high = (f"{100 * level:g}%" for level in found["levels"])
    console.print(f"{found['name']}, by its own rules, against {found['baseline']}", style="bold")
    table = Table(box=None, padding=(0, 2, 0, 0))
    controlled = any(one["style_controlled"] is not None for one in found["scores"])
    styles = ("style controlled", f"{low} to {high}") if controlled else ()
    for column in ("", "of"):
        table.add_column(column, overflow="fold")
    for column in ("score", f"{low} to {high}", *styles, "questions"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in sorted(found["scores"], key=lambda one: (one["of"], -one["score"])):
        cells = _score(one, "score", "ci")
        cells += _score(one, "style_controlled", "style") if styles else []
        table.add_row(one["model"], one["of"], *cells, f"{one['n']:,}")
    console.print(table)
    for difference in found["apart"]:
        console.print(f"not as published: {difference}")


def _score(one: Json, key: str, ends: str) -> list[str]:
    if one[key] is None:
        return ["", ""]
    form = ".2f" if one["scale"] == "rating" else ".1%"
    low, high = (one[f"{ends}_{end}"] for end in ("low", "high"))
    between = "" if low is None else f"{low:{form}} to {high:{form}}"
    return [f"{one[key]:{form}}", between]


def _elo_cells(row: Json) -> list[str]:
    if row["elo"] is None:
        return ["none", "nothing scored"]
    if row["elo_low"] is None:
        return [f"{row['elo']:,.0f}", "the anchor"]
    return [f"{row['elo']:,.0f}", f"{row['elo_low']:,.0f} to {row['elo_high']:,.0f}"]


def _rated_words(about: Json) -> str:
    words = f"Elo: Bradley-Terry over {about['n_pairs']} pairs, {about['n_prompts']:,} prompts"
    if about["penalised"]:
        words += "; somebody won or lost all, so half a win and half a loss a pair were added"
    return words


def _criteria_words(row: Json, baseline: str) -> str:
    said = ", ".join(
        f"{name} {one['value']:.1%} ({one['ci_low']:.1%} to {one['ci_high']:.1%})"
        for name, one in row["criteria"].items()
        if one["value"] is not None
    )
    return f"{row['name']} over {baseline} by criterion: {said}"


def _pair_words(pair: Json) -> str:
    return (
        f"{pair['first']} over {pair['second']}: {100 * pair['difference']:+.1f} points "
        f"({100 * pair['ci_low']:+.1f} to {100 * pair['ci_high']:+.1f}; p {pair['p_holm']:.3g} "
        f"by Holm): {pair['verdict']}{_direct_words(pair)}"
    )


def _direct_words(pair: Json) -> str:
    if pair["win_rate"] is None:
        return ""
    ends = f"{pair['win_rate_low']:.1%} to {pair['win_rate_high']:.1%}"
    return f"; head to head {pair['win_rate']:.1%} ({ends})"


def _by_name(missing: Sequence[Json]) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for one in missing:
        found.setdefault(one["name"], []).append(one)
    return found
