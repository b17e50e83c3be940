"""Ingest against `datasets.map` and against the least that must be done: `make bench-ingest`.

HH-like rows (JSON Lines, gzipped) and UltraFeedback-shaped rows (Parquet) are made from the real
ones: words are exchanged, the same in both transcripts, and about one row in a hundred is given a
defect. Every configuration is a process of its own, in turns; CPU-seconds are user and system time
of that process and its children, start to end, and the least of all rounds counts. Libraries are
told to use one thread.

- `ours`: the stage as it is: three tables, duplicates, rejects, ids, splits. Nobody looks for
  near-duplicates: neither do the others.
- `datasets_1`, `datasets_2`: `datasets.map` over the same parser, ids, sides and splits, with one
  and two processes; then bad rows are filtered out and the comparisons written. It finds no
  duplicates and writes no prompts, demonstrations or rejects.
- `floor`: decompress, parse (`polars.read_ndjson`, or pyarrow for Parquet), and write the same
  three tables with the same compression from columns that lie in memory.

Where the time of `ours` goes on HH, in CPU-seconds by `time.process_time` around each step: writing
Parquet 1.2 (as in the floor), ids, sides and splits 0.45, imports 0.3, cutting and making turns
0.3, inflating 0.24, finding strings 0.22, the rows of each table 0.2, polars to Arrow 0.14,
duplicates 0.12, rejects 0.05. On UltraFeedback: writing 0.6, reading Parquet 0.4, imports 0.3, ids,
sides and splits 0.24, messages 0.12, polars to Arrow 0.08, the rows of each table 0.07, rejects
0.06, duplicates 0.05. Writing, reading and imports alone are the floor; what is ours comes to three
quarters of it again, most of it ids and the cutting of texts. Memory grows by the keys of what has
been seen, 46 bytes a row.
"""

import argparse
import gzip
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
RESULT = Path(__file__).parent / "results" / "ingest.json"
TABLES = ("prompts", "demonstrations", "comparisons")
# The order of a round; what is quick is measured twice.
ROUND = ("floor", "ours", "datasets_1", "floor", "ours", "datasets_2")
ROWS = {"hh": 160_800, "ultrafeedback": 61_135}
NAMES = {"hh": "hh{}.jsonl.gz", "ultrafeedback": "uf{}.parquet"}
REAL = {
    "hh": "hh-rlhf/harmless-base-test.jsonl.gz",
    "ultrafeedback": "ultrafeedback/ultrafeedback_binarized_202.jsonl.gz",
}
Row = dict[str, Any]


def real_rows(kind: str) -> list[Row]:
    """The real rows that all others are made from."""
    folder = Path(os.environ.get("PREFLINE_REAL_DATA", ROOT.parent / "shared" / "data"))
    path = folder / REAL[kind]
    if not path.exists():
        sys.exit(f"{path} is not there: set PREFLINE_REAL_DATA to the folder that holds it")
    with gzip.open(path) as lines:
        return [json.loads(line) for line in lines]


def exchange_words(text: str, draw: random.Random, words: list[str]) -> str:
    """One word in five becomes another; what marks a turn stays."""
    return " ".join(
        draw.choice(words) if ":" not in w and "\n" not in w and draw.random() < 0.2 else w
        for w in text.split(" ")
    )


def hh_rows(count: int) -> Iterator[Row]:
    """HH-like rows: the real ones, then copies with other words, some with a defect."""
    real, draw = real_rows("hh"), random.Random(0)
    words = [w for row in real for w in row["chosen"].split(" ") if "\n" not in w]
    for index in range(count):
        row = real[index % len(real)]
        if index >= len(real):
            seed = draw.random()  # the same words in both, so that histories stay the same
            sides = ("chosen", "rejected")
            row = {s: exchange_words(row[s], random.Random(seed), words) for s in sides}
        yield hh_defect(row, draw)


def hh_defect(row: Row, draw: random.Random) -> Row:
    """The row, or in one of a hundred cases one that must be rejected or read with care."""
    chosen, rejected = row["chosen"], row["rejected"]
    damaged: list[Row] = [
        {"chosen": chosen, "rejected": chosen},
        {"chosen": chosen + "\n\nHuman: And then?", "rejected": rejected},
        {"chosen": chosen, "rejected": chosen.rpartition("\n\nAssistant:")[0] + "\n\nAssistant: "},
        {"chosen": "Note." + chosen, "rejected": "Note." + rejected},
        {"chosen": chosen, "rejected": rejected.replace("\n\nHuman:", "\n\nHuman: Well,", 1)},
        {"chosen": chosen + " \x1e", "rejected": rejected},
        {"chosen": rejected, "rejected": chosen},
    ]
    return draw.choice(damaged) if draw.random() < 0.01 else row


def ultrafeedback_rows(count: int) -> Iterator[Row]:
    """Rows in the columns of HuggingFaceH4/ultrafeedback_binarized."""
    real, draw = real_rows("ultrafeedback"), random.Random(0)
    words = [w for row in real for w in row["chosen"][-1]["content"].split(" ") if w]
    for index in range(count):
        row = real[index % len(real)]
        texts = [row["chosen"][0]["content"], *(row[s][-1]["content"] for s in SIDES)]
        if index >= len(real):
            texts = [exchange_words(text, draw, words) for text in texts]
        prompt, *answers = texts
        turns = {
            side: [message("user", prompt), message("assistant", answer)]
            for side, answer in zip(SIDES, answers, strict=True)
        }
        scores = {name: float(row[name]) for name in ("score_chosen", "score_rejected")}
        yield {"prompt": prompt, "prompt_id": f"{index:064x}", **turns, **scores} | {
            "messages": turns["chosen"]
        }


SIDES = ("chosen", "rejected")


def message(role: str, content: str) -> dict[str, str]:
    """A turn, its fields in the order of the published files."""
    return {"content": content, "role": role}


def make_files(kind: str, folder: Path, times: list[int], share: float) -> None:
    """Write the input once, and files of that many times as many rows, all of them different."""
    count = int(ROWS[kind] * share)
    if kind == "hh":
        lines = [json.dumps(row, ensure_ascii=False).encode() for row in hh_rows(count)]
        with gzip.open(folder / NAMES[kind].format(1), "wb", compresslevel=6) as file:
            file.write(b"\n".join(lines) + b"\n")
        for n in times:
            with gzip.open(folder / NAMES[kind].format(n), "wb", compresslevel=1) as file:
                for copy in range(n):
                    mark = f"\\n\\nHuman: ({copy}) ".encode()
                    copied = (line.replace(b"\\n\\nHuman: ", mark) for line in lines)
                    file.write(b"\n".join(copied) + b"\n")
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = list(ultrafeedback_rows(count))
    pq.write_table(pa.Table.from_pylist(rows), folder / NAMES[kind].format(1), row_group_size=1000)
    for n in times:
        with pq.ParquetWriter(
            folder / NAMES[kind].format(n), pa.Table.from_pylist(rows).schema
        ) as file:
            for copy in range(n):
                for start in range(0, count, 1000):
                    part = [numbered(row, copy) for row in rows[start : start + 1000]]
                    file.write_table(pa.Table.from_pylist(part))


def numbered(row: Row, copy: int) -> Row:
    """The row with another prompt."""
    prompt = f"{row['prompt']} ({copy})"
    turns = {side: [message("user", prompt), row[side][-1]] for side in SIDES}
    return {**row, "prompt": prompt, **turns, "messages": turns["chosen"]}


def run_ours(kind: str, path: Path, output: Path, near_duplicates: str = "off") -> None:
    """The stage. bench_near_duplicates.py runs it with the search for near-duplicates."""
    from schemas.stage import SilentProgress, StageContext
    from stages.ingest import STAGE
    from stages.ingest.config import IngestConfig

    config = IngestConfig.model_validate(
        {
            "datasets": [{"kind": kind, "path": str(path)}],
            "near_duplicates": {"policy": near_duplicates},
        }
    )
    counts = STAGE.run(config, StageContext(inputs={}, output=output, progress=SilentProgress()))
    (output / "counts.json").write_text(json.dumps(dict(counts)))


def oracle_row(row: Mapping[str, Any], kind: str) -> Row:
    """One row by the plain parser: what the comparisons table holds, or the reason against it."""
    from dataclasses import replace

    from schemas.ids import comparison_id, prompt_id, seed_from, turns_id
    from stages.ingest.datasets.config import UltraFeedbackDataset
    from stages.ingest.datasets.hh import parse_hh
    from stages.ingest.datasets.ultrafeedback import UltraFeedbackReader
    from stages.ingest.examples import RowError
    from stages.ingest.splits import hash_split

    nothing: Row = {name: None for name in ("comparison_id", "prompt_id", "label", "strength")}
    nothing |= {"prompt": [], "completion_a": [], "completion_b": [], "split": None}
    try:
        parse = (
            parse_hh if kind == "hh" else UltraFeedbackReader(UltraFeedbackDataset(path="-")).parse
        )
        example = parse(row)
    except RowError as error:
        return {**nothing, "reason": error.reason}
    prompt = prompt_id(example.prompt)
    sides = [turns_id(side) for side in (example.completion_a, example.completion_b)]
    if seed_from(0, "sides", prompt, *sides) % 2:
        example = replace(
            example,
            completion_a=example.completion_b,
            completion_b=example.completion_a,
            label=example.label.swap(),
        )
    return {
        "comparison_id": comparison_id(example.prompt, example.completion_a, example.completion_b),
        "prompt_id": prompt,
        "label": example.label.value,
        "strength": example.strength,
        "prompt": example.prompt,
        "completion_a": example.completion_a,
        "completion_b": example.completion_b,
        "split": hash_split(prompt, 0.1, 0.1),
        "reason": None,
    }


def run_datasets(kind: str, path: Path, output: Path, processes: int) -> None:
    """`datasets.map` over `oracle_row`."""
    import datasets

    datasets.disable_progress_bars()
    output.mkdir(parents=True)
    loader = "json" if kind == "hh" else "parquet"
    rows = datasets.load_dataset(
        loader, data_files=str(path), split="train", cache_dir=str(output / "cache")
    )
    made = rows.map(
        oracle_row,
        fn_kwargs={"kind": kind},
        remove_columns=rows.column_names,
        num_proc=processes if processes > 1 else None,
    )
    reasons = made.data["reason"]
    kept = [i for i, reason in enumerate(reasons.to_pylist()) if reason is None]
    made.select(kept).remove_columns("reason").to_parquet(output / "comparisons.parquet")


def prepare_floor(tables: Path, output: Path) -> None:
    """Lay the columns of the three tables out, so that the floor need not make them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in TABLES:
        data = pq.read_table(tables / f"{name}.parquet")
        path = str(output / f"{name}.arrow")
        with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, data.schema) as stream:
            stream.write_table(data)


def run_floor(kind: str, path: Path, columns: Path, output: Path) -> None:
    """Decompress, parse, write."""
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    output.mkdir(parents=True)
    if kind == "hh":
        from stages.ingest.frames.blocks import line_blocks

        schema = {"chosen": pl.String, "rejected": pl.String}
        for block in line_blocks(path, path.name):
            pl.read_ndjson(block.data, schema=schema)
    else:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for _ in file.iter_batches(batch_size=2048, use_threads=False):
                pass
    for name in TABLES:
        with pa.memory_map(str(columns / f"{name}.arrow")) as mapped:
            stream = pa.ipc.open_stream(mapped)
            with pq.ParquetWriter(
                output / f"{name}.parquet",
                stream.schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=False,
            ) as writer:
                for batch in stream:
                    writer.write_batch(batch, row_group_size=8192)


def measured(*command: str) -> tuple[float, float, float]:
    """CPU-seconds, wall seconds and peak RSS in MB of this script with these arguments.

    The peak is never less than what this process itself holds: everything large is made elsewhere.
    """
    alone = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment = {**os.environ, **alone}
    start = time.perf_counter()
    child = os.posix_spawn(sys.executable, [sys.executable, __file__, *command], environment)
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"{' '.join(command)}: failed")
    wall = time.perf_counter() - start
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024


def measure(kind: str, data: Path, folder: Path, times: list[int], rounds: int) -> Row:
    """All configurations in turns, and ours at several sizes, on the files in `data`."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ROUND}
    path, columns = data / NAMES[kind].format(1), folder / "columns"
    measured("run", "ours", kind, str(path), str(folder / "first"), str(columns))
    counts = json.loads((folder / "first" / "counts.json").read_text())
    columns.mkdir(exist_ok=True)
    measured("lay-out", str(folder / "first"), str(columns))
    for turn in range(rounds):
        for place, name in enumerate(ROUND):
            output = folder / f"{turn}-{place}-{name}"
            found[name].append(measured("run", name, kind, str(path), str(output), str(columns)))
            sys.stderr.write(f"{kind} {name}: {found[name][-1][0]:.2f} CPU-seconds\n")
    rss = {"1": min(run[2] for run in found["ours"])}
    for n in times:
        source = data / NAMES[kind].format(n)
        output = folder / f"x{n}"
        rss[str(n)] = measured("run", "ours", kind, str(source), str(output), str(columns))[2]
    cpu = {name: min(run[0] for run in runs) for name, runs in found.items()}
    largest = max(times)
    return {
        "rows": counts["rows_in"],
        "input_mb": round(path.stat().st_size / 1e6, 1),
        "counts": counts,
        "cpu_seconds": {name: round(value, 2) for name, value in cpu.items()},
        "wall_seconds": {n: round(min(run[1] for run in runs), 2) for n, runs in found.items()},
        "peak_rss_mb": {n: round(max(run[2] for run in runs)) for n, runs in found.items()},
        "rows_per_cpu_second": round(counts["rows_in"] / cpu["ours"]),
        "rss_mb_at_times_the_rows": {n: round(value) for n, value in rss.items()},
        "ratios": {
            "cpu_vs_datasets_map": round(
                min(cpu["datasets_1"], cpu["datasets_2"]) / cpu["ours"], 2
            ),
            "cpu_vs_floor": round(cpu["ours"] / cpu["floor"], 2),
            "rss_4x_vs_1x": round(rss[str(largest)] / rss["1"], 2),
        },
    }


def main() -> None:
    """Measure everything, or be one measured process."""
    if sys.argv[1:2] == ["make"]:
        kind, folder, *numbers, part = sys.argv[2:]
        make_files(kind, Path(folder), list(map(int, numbers)), float(part))
        return
    if sys.argv[1:2] == ["lay-out"]:
        prepare_floor(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    if sys.argv[1:2] == ["run"]:
        name, kind, path, output, columns = sys.argv[2:]
        if name in ("ours", "one_split"):
            run_ours(kind, Path(path), Path(output), "off" if name == "ours" else name)
        elif name == "floor":
            run_floor(kind, Path(path), Path(columns), Path(output))
        else:
            run_datasets(kind, Path(path), Path(output), int(name[-1]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="share of the rows")
    parser.add_argument("--kinds", nargs="+", default=list(ROWS))
    parser.add_argument("--folder", type=Path, help="keep the files here, or take those there")
    parser.add_argument("--result", type=Path, default=RESULT)
    options = parser.parse_args()
    times, formats = [2, 4], {}
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            data = options.folder or Path(folder)
            if not (data / NAMES[kind].format(times[-1])).exists():
                measured("make", kind, str(data), *map(str, times), str(options.share))
            formats[kind] = measure(kind, data, Path(folder), times, options.rounds)
    worst = {"cpu_vs_datasets_map": min, "cpu_vs_floor": max, "rss_4x_vs_1x": max}
    result = {
        "ratios": {n: pick(f["ratios"][n] for f in formats.values()) for n, pick in worst.items()},
        "rss_mb_at_4x": max(f["rss_mb_at_times_the_rows"]["4"] for f in formats.values()),
        "cores": os.cpu_count(),
        "load_average_at_end": round(os.getloadavg()[0], 1),
        **formats,
    }
    options.result.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(json.dumps(result["ratios"], indent=1) + "\n")


if __name__ == "__main__":
    main()
