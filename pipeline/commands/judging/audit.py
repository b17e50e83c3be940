"""The audit command: a person judges pairs blind, in a browser on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.display.terminal_text import say
from schemas.errors import ConfigError

if TYPE_CHECKING:
    from evals.audit.labels import LabelFile
    from evals.audit.pairs import AuditPair

LABELS_NAME = "labels.jsonl"


def audit(
    target: Annotated[
        Path, typer.Argument(help="A run directory, or a file of comparisons as ours are.")
    ],
    n: Annotated[int, typer.Option("--n", min=1, help="How many pairs, at most.")] = 100,
    draw: Annotated[
        Literal["random", "disagreement"],
        typer.Option(help="Which pairs: random, or rather those that the verdicts disagree on."),
    ] = "random",
    labels: Annotated[
        Path | None,
        typer.Option(help="Where the answers go. Default: RUN/audit/labels.jsonl, or beside FILE."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw and of the sides.")] = 0,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")
    ] = 8321,
    to: Annotated[
        Literal["label-studio", "argilla"] | None,
        typer.Option("--to", help="Write the pairs for another tool, instead of serving a page."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file that --to or --table writes.")
    ] = None,
    answers: Annotated[
        Path | None, typer.Option("--from", help="Take answers from another tool's JSON export.")
    ] = None,
    table: Annotated[
        bool,
        typer.Option("--table", help="Write what people said as a labelled comparisons table."),
    ] = False,
) -> None:
    """Let people judge pairs blind on a page of this machine; every answer is on disk at once."""
    from evals.audit.exchange import LABEL_STUDIO_VIEW, read_answers, write_pairs
    from evals.audit.labels import LabelFile
    from evals.audit.pairs import find_comparisons, open_plan

    if (to is not None or table) and out is None:
        raise ConfigError("--out: name the file to write")
    comparisons = find_comparisons(target)
    path = labels or _beside(target)
    pairs = open_plan(comparisons, path.parent, n, draw, seed)
    file = LabelFile(path)
    if to is not None and out is not None:
        write_pairs(pairs, to, out)
        say(f"{out}: {len(pairs)} pairs for {to}")
        if to == "label-studio":
            say(LABEL_STUDIO_VIEW)
    elif table and out is not None:
        say(f"{out}: {_write_table(comparisons, file, out)} labelled comparisons")
    elif answers is not None:
        taken = read_answers(answers, pairs)
        for label in taken:
            file.add(label)
        say(f"{path}: {len(taken)} answers added")
    else:
        _serve(target, comparisons, pairs, file, seed, port)


def _beside(target: Path) -> Path:
    folder = target / "audit" if target.is_dir() else target.with_suffix(".audit")
    return folder / LABELS_NAME


def _serve(
    target: Path,
    comparisons: Path,
    pairs: "list[AuditPair]",
    file: "LabelFile",
    seed: int,
    port: int,
) -> None:
    from evals.audit.app import Audit, application
    from evals.audit.serve import listen, serve

    file.read()  # a damaged file is refused before anybody answers
    listening = listen(port)
    after = f"prefline win-rate {comparisons.with_name('verdicts.parquet')} --labels {file.path}"
    if target.is_file():
        after = f"prefline audit {target} --table --out labelled.parquet"
    opened = Audit(pairs, file, seed, after, int(listening.getsockname()[1]))
    say(f"{len(pairs)} pairs; answers go to {file.path}; Ctrl-C ends it, nothing is lost")
    serve(application(opened), listening, lambda address: say(address))
    say(f"{len(file.read())} answers in {file.path}\n{after}")


def _write_table(comparisons: Path, file: "LabelFile", out: Path) -> int:
    from evals.audit.labels import majority
    from schemas.parquet import read_rows, write_table
    from schemas.tables import COMPARISONS

    said = majority(file.read())
    rows = [
        {**row, "label": said[row["comparison_id"]], "label_source": "human"}
        for row in read_rows(comparisons, COMPARISONS)
        if row["comparison_id"] in said
    ]
    if not rows:
        raise ConfigError(f"{file.path}: holds no answers about these comparisons yet")
    write_table(out, COMPARISONS, rows)
    return len(rows)
