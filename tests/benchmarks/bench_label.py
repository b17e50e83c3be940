"""Does labelling stay flat in memory, up to a million comparisons? Measured on made-up completions.

Each size runs in a process of its own: completions of about 400 characters, four a prompt, every
two of them judged in both orders by a judge that costs nothing. Writes results/label.json.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from evals.judges import LengthJudge, save_judge
from schemas.ids import prompt_id
from schemas.parquet import TableWriter
from schemas.stage import Runtime, StageContext
from schemas.tables import COMPLETIONS
from stages.label import STAGE
from stages.label.config import LabelConfig
from tests.fixtures.comparisons import completion_row, said

RESULT = Path(__file__).parent / "results" / "label.json"
COMPLETIONS_A_PROMPT = 4
COMPARISONS_A_PROMPT = 6
SIZES = (50_000, 200_000, 1_000_000)
SENTENCE = "the answer depends on what one means by better and on who is asked about it"
WORDS = SENTENCE.split(" ")


def question(number: int) -> str:
    """The text of a prompt."""
    return f"question {number}: which is better?"


def completions(prompts: int) -> Iterator[pa.Table]:
    """Rows of COMPLETIONS in pieces, by prompt as sample leaves them; the texts all differ."""
    piece: list[dict[str, Any]] = []
    for number in sorted(range(prompts), key=lambda n: prompt_id(said(question(n), "user"))):
        for index in range(COMPLETIONS_A_PROMPT):
            words = [WORDS[(number + index * i) % len(WORDS)] for i in range(40 + 19 * index)]
            text = f"{number} {index} {' '.join(words)}"
            piece.append(completion_row(question(number), text, index))
        if len(piece) >= 8192:
            yield pa.Table.from_pylist(piece, schema=COMPLETIONS.schema)
            piece = []
    if piece:
        yield pa.Table.from_pylist(piece, schema=COMPLETIONS.schema)


def prepare(folder: Path, comparisons: int) -> None:
    """Write the completions and the judge that label reads."""
    with TableWriter(folder / "sample" / COMPLETIONS.file_name, COMPLETIONS) as writer:
        for piece in completions(comparisons // COMPARISONS_A_PROMPT):
            writer.append(piece)
    (folder / "judge").mkdir()
    save_judge(folder / "judge", LengthJudge(), Runtime())
    (folder / "label").mkdir()


def label(folder: Path) -> dict[str, Any]:
    """Run the stage in this process and measure it."""
    inputs = {"sample": folder / "sample", "judge": folder / "judge"}
    started, before = time.perf_counter(), time.process_time()
    counts = STAGE.run(LabelConfig(shard_size=256), StageContext(inputs, folder / "label"))
    cpu = time.process_time() - before
    return {
        "comparisons": counts["comparisons"],
        "verdicts": counts["verdicts"],
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "wall_seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(cpu, 1),
        "comparisons_per_cpu_second": round(counts["comparisons"] / cpu),
    }


def measure(comparisons: int) -> dict[str, Any]:
    """One size, its preparation and its run each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        for step in ("prepare", "label"):
            command = [sys.executable, __file__, "--step", step, folder, str(comparisons)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure all sizes, print a table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="comparisons")
    parser.add_argument("--step", choices=("prepare", "label"), help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        folder, comparisons = Path(options.rest[0]), int(options.rest[1])
        if options.step == "prepare":
            prepare(folder, comparisons)
        else:
            sys.stdout.write(json.dumps(label(folder)))
        return
    rows = []
    for size in options.sizes:
        rows.append(measure(size))
        sys.stdout.write(f"{json.dumps(rows[-1])}\n")
    ratio = rows[-1]["peak_rss_bytes"] / rows[0]["peak_rss_bytes"]
    result = {"runs": rows, "ratios": {"peak_rss_largest_vs_smallest": round(ratio, 3)}}
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(f"{json.dumps(result['ratios'])}\n{RESULT}\n")


if __name__ == "__main__":
    main()
