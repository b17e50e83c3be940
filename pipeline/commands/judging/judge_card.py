"""The judge-card command: any judge measured on any labelled comparisons, as JSON or in lines."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.display.terminal_text import say_json


def judge_card(
    file: Annotated[
        Path,
        typer.Argument(
            help="A comparisons table, Auto-J's, HHH's or JudgeBench's pairs, or your own: prompt, "
            "response_a, response_b, preference."
        ),
    ],
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            "-j",
            help="A kind (length), its settings as JSON, or a folder of judge.json; "
            "with --verdicts, whose verdicts.",
        ),
    ] = None,
    verdicts: Annotated[
        Path | None,
        typer.Option(help="Saved verdicts instead: verdicts.parquet, or JudgeBench's judgements."),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Of a comparisons table: train, test or all.")
    ] = "test",
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many comparisons, a fair sample.")
    ] = None,
    attacks: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Measure on so many pairs (50 is a good number) how far texts that speak to the "
            "judge move it; the price of a judge that is paid for is said first.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")] = False,
) -> None:
    """Measure a judge against labels: agreement, ties, bias for a place, calibration, failures."""
    # Loads the judges, which --help does without.
    from pipeline.commands.judging import measuring
    from pipeline.display.judge_card import show_card

    labelled = measuring.read_labelled(file, None if split == "all" else split)
    units = labelled.comparisons[:limit]
    known = {unit.comparison.comparison_id for unit in units}
    rows = measuring.saved(verdicts, judge) if verdicts else measuring.asked(judge, labelled, limit)
    mine = [row for row in rows if row["comparison_id"] in known]
    if verdicts:  # what nobody asked this judge is no failure of its
        asked = {row["comparison_id"] for row in mine}
        units = [unit for unit in units if unit.comparison.comparison_id in asked]
    first = mine[0] if mine else {"judge": judge or "", "judge_fingerprint": ""}
    card = measuring.build_card(
        units,
        mine,
        judge=first["judge"],
        kind=first["judge"].partition(":")[0],
        fingerprint=first["judge_fingerprint"],
        members=measuring.members_of_file(labelled),
    )
    if attacks and judge and not verdicts:
        card = card.model_copy(update={"attacks": measuring.attacked(judge, labelled, attacks)})
    if as_json:
        say_json(json.dumps(card.to_json(), allow_nan=False))
    else:
        show_card(card)
