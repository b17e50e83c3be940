"""How what grows, grows: `make bench-growth`.

Each at three sizes, every measurement a process of its own: CPU-seconds of the work alone, and the
exponent of growth between the smallest and the largest size by their logarithms: 1 is linear, 2 is
quadratic; n log n comes to about 1.1 over these sizes. `status` is measured with its process.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
RESULT = Path(__file__).parent / "results" / "growth.json"
MOST = 1.3
"""Exponents above are too much: n log n with some noise stays below."""
MOST_TIMES = 3
"""What `status` of 99 rounds may take, in times of that of one."""


def status(rounds: int, folder: Path) -> float:
    """`prefline status` of a recipe of so many rounds, from the start of the process to its end."""
    recipe = ROOT / "pipeline" / "recipes" / "food-rounds.toml"
    where = ["--recipe", str(recipe), "--run-dir", str(folder / "run"), "--json"]
    command = [sys.executable, "-m", "pipeline", "status", *where, "--set", f"rounds.n={rounds}"]
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    child = os.posix_spawn(sys.executable, command, os.environ, file_actions=quiet)
    _, code, usage = os.wait4(child, 0)
    assert os.waitstatus_to_exitcode(code) == 0
    return usage.ru_utime + usage.ru_stime


def prompts(rows: int, folder: Path) -> float:
    """Choosing prompts of a file in no order, as sample does."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from schemas.ids import content_id
    from schemas.tables import PROMPTS
    from stages.shards.work_file import in_shards, sorted_rows

    ids = [content_id("prompt", str(i)) for i in range(rows)]
    prompt = [{"role": "user", "content": "Which of them is it?"}]
    shared = {"prompt_id": None, "prompt": prompt, "split": "train", "source": "s", "file": "f"}
    columns: dict[str, Any] = {}
    for field in PROMPTS.schema:
        value = shared.get(field.name, 0 if field.name == "row" else None)
        columns[field.name] = pa.array([value] * rows, field.type) if value is not None else None
    columns["prompt_id"] = pa.array(ids)
    made = [
        columns[f.name] if columns[f.name] is not None else pa.nulls(rows, f.type)
        for f in PROMPTS.schema
    ]
    path = folder / PROMPTS.file_name
    pq.write_table(pa.Table.from_arrays(made, schema=PROMPTS.schema), path, row_group_size=8192)
    start = time.process_time()
    for _ in in_shards(sorted_rows(path, PROMPTS, "prompt_id"), "prompt_id", 1000):
        pass
    return time.process_time() - start


def generations(evaluations: int, folder: Path) -> float:
    """The table of what the policy writes, at every evaluation."""
    from stages.training.monitoring.generations import Generations

    class Written(Generations):
        """Without a model."""

        def __init__(self) -> None:
            self._path = folder / "generations.parquet"
            self._newest = folder / "generations.newest.parquet"
            self._rows, self._in_table = [], 0

        def add(self, step: int) -> None:
            """What an evaluation of four prompts writes."""
            said = [{"role": "assistant", "content": "An answer of some words."}]
            row = {"step": step, "prompt": said, "completion": said, "num_tokens": 6}
            row |= {"sum_logps": -3.0, "finish_reason": "stop", "well_formed": None}
            self._rows += [row | {"prompt_id": f"{i}"} for i in range(4)]
            self._write()

    table = Written()
    start = time.process_time()
    for step in range(evaluations):
        table.add(step)
    table.close()
    return time.process_time() - start


def keys(count: int, folder: Path) -> float:
    """A line of JSON with so many keys, the last of which stands there twice."""
    from stages.ingest.readers.raw_rows import json_value

    names = [*range(count), count - 1]
    line = ("{" + ",".join(f'"k{n}":1' for n in names) + "}").encode()
    start = time.process_time()
    for _ in range(10):
        json_value(line)
    return time.process_time() - start


def shards(count: int, folder: Path) -> float:
    """Keeping the results of so many shards, and joining them."""
    from schemas.tables import REJECTS
    from stages.shards.results import Results

    results = Results(folder, (REJECTS,))
    start = time.process_time()
    for shard in range(count):
        results.write(shard, {REJECTS.name: []}, {})
    results.done()
    return time.process_time() - start


def array(rows: int, folder: Path) -> float:
    """Reading a JSON array."""
    from stages.ingest.readers.raw_rows import read_jsonl

    made = [{"prompt": f"q{i}", "chosen": "yes " * 40, "rejected": "no " * 40} for i in range(rows)]
    (folder / "x.json").write_text(json.dumps(made))
    start = time.process_time()
    assert sum(1 for _ in read_jsonl(folder / "x.json", "x.json")) == rows
    return time.process_time() - start


def unpaired(rows: int, folder: Path) -> float:
    """Pairing good and bad answers by prompt."""
    from schemas.stage import SilentProgress, StageContext
    from stages.ingest import STAGE
    from stages.ingest.config import IngestConfig

    with (folder / "x.jsonl").open("w") as file:
        for i in range(rows):
            row = {"prompt": f"question {i % (rows // 2)}", "completion": f"answer {i}"}
            file.write(json.dumps(row | {"label": i % 2 == i // (rows // 2)}) + "\n")
    dataset = {"kind": "kto", "path": str(folder / "x.jsonl")}
    config = IngestConfig.model_validate({"datasets": [dataset]})
    context = StageContext(inputs={}, output=folder / "out", progress=SilentProgress())
    start = time.process_time()
    STAGE.run(config, context)
    return time.process_time() - start


CASES: Mapping[str, tuple[Callable[[int, Path], float], tuple[int, int, int]]] = {
    "status, rounds.n": (status, (1, 33, 99)),
    "sample, choosing prompts of an unsorted file": (prompts, (25_000, 100_000, 400_000)),
    "generations.parquet, evaluations": (generations, (250, 500, 1000)),
    "a line of JSON, keys": (keys, (10_000, 20_000, 40_000)),
    "shards, results kept": (shards, (250, 500, 1000)),
    "ingest, rows of a JSON array": (array, (10_000, 40_000, 160_000)),
    "ingest, unpaired answers": (unpaired, (4_000, 8_000, 16_000)),
}


def measured(name: str, size: int) -> float:
    """CPU-seconds of a case, in a process of its own."""
    alone = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment = {**os.environ, **alone}
    command = [sys.executable, __file__, "one", name, str(size)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} at {size}: {done.stderr[-2000:]}")
    return float(done.stdout.splitlines()[-1])


def main() -> int:
    """Measure all, or be one of them; 1 where something grows too fast."""
    if sys.argv[1:2] == ["one"]:
        with tempfile.TemporaryDirectory() as folder:
            case, _ = CASES[sys.argv[2]]
            sys.stdout.write(f"{case(int(sys.argv[3]), Path(folder))}\n")
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name begins like this")
    parser.add_argument("--result", type=Path, default=RESULT)
    options = parser.parse_args()
    found = json.loads(options.result.read_text()) if options.result.exists() else {}
    for name, (_, sizes) in CASES.items():
        if not name.startswith(options.only):
            continue
        seconds = [measured(name, size) for size in sizes]
        exponent = math.log(seconds[-1] / seconds[0]) / math.log(sizes[-1] / sizes[0])
        found[name] = {
            "sizes": sizes,
            "cpu_seconds": [round(value, 3) for value in seconds],
            "exponent": round(exponent, 2),
            "times": round(seconds[-1] / seconds[0], 2),
        }
        sys.stdout.write(f"{name}: {found[name]}\n")
        sys.stdout.flush()
        options.result.write_text(json.dumps(found, indent=1) + "\n")
    too_fast = [name for name, case in found.items() if case["exponent"] > MOST]
    slow_status = found.get("status, rounds.n", {"times": 0})["times"] > MOST_TIMES
    return int(bool(too_fast) or slow_status)


if __name__ == "__main__":
    raise SystemExit(main())
