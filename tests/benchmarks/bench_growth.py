"""How what grows, grows: `make bench-growth`.

Each at three sizes, every measurement a process of its own, with what it needs already there: the
CPU-seconds of the work alone, with processes that it starts, the memory that it takes at its height
above what it began with, and the exponents of growth between the smallest and the largest size by
their logarithms: 1 is linear, 2 is quadratic; n log n comes to about 1.1 over these sizes. Where
rows stream, memory may not grow.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
RESULT = Path(__file__).parent / "results" / "growth.json"
MOST = 1.3
"""Exponents above are too much: n log n with some noise stays below."""
MOST_TIMES = 3
"""What `status` of 99 rounds may take, in times of that of one."""
MOST_MB = 100
"""By how much more memory the largest size may take than the smallest where rows stream: what is
kept of a row is an id."""

IN_MEMORY = Path("/dev/shm")
"""Where files lie, as far as there is such a place: waiting for a disk is nothing that grows."""
FEW = 20
"""How large the first time is, which is not measured: it loads what is loaded once."""

Work = Callable[[], float | None]
"""What is measured; gives the MB of the process that it has started, where it has."""


def _command(*words: str) -> Work:
    """A command in a process of its own."""

    def work() -> float:
        quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
        command = [sys.executable, "-m", "pipeline", *words]
        child = os.posix_spawn(sys.executable, command, os.environ, file_actions=quiet)
        _, code, usage = os.wait4(child, 0)
        assert os.waitstatus_to_exitcode(code) == 0
        return usage.ru_maxrss / 1024

    return work


def _done(work: Callable[[], object]) -> Work:
    """Work in this process."""

    def done() -> None:
        work()

    return done


def status(rounds: int, folder: Path) -> Work:
    """`prefline status` of a recipe of so many rounds, from the start of the process to its end."""
    recipe = ROOT / "pipeline" / "recipes" / "food-rounds.toml"
    where = ["--recipe", str(recipe), "--run-dir", str(folder / "run"), "--json"]
    return _command("status", *where, "--set", f"rounds.n={rounds}")


def _prompt_rows(rows: int) -> Any:
    """A table of PROMPTS in no order."""
    import pyarrow as pa

    from schemas.ids import content_id
    from schemas.tables import PROMPTS

    shared = {
        "prompt": [{"role": "user", "content": "Which of them is it?"}],
        "split": "train",
        "source": "s",
        "file": "f",
        "row": 0,
    }
    ids = pa.array([content_id("prompt", str(i)) for i in range(rows)])
    columns = [
        ids if field.name == "prompt_id" else pa.array([shared.get(field.name)] * rows, field.type)
        for field in PROMPTS.schema
    ]
    return pa.Table.from_arrays(columns, schema=PROMPTS.schema)


def prompts(rows: int, folder: Path) -> Work:
    """Choosing prompts of a file in no order, as sample does."""
    import pyarrow.parquet as pq

    from schemas.tables import PROMPTS
    from stages.shards.work_file import in_shards, sorted_rows

    path = folder / PROMPTS.file_name
    pq.write_table(_prompt_rows(rows), path, row_group_size=8192)

    def work() -> None:
        for _ in in_shards(sorted_rows(path, PROMPTS, "prompt_id"), "prompt_id", 1000):
            pass

    return work


def shards(count: int, folder: Path) -> Work:
    """Reading a work file shard by shard."""
    from schemas.tables import PROMPTS
    from stages.shards.work_file import WorkFile

    rows = _prompt_rows(count)
    WorkFile(folder / "work.parquet").write(PROMPTS, (rows.slice(i, 1) for i in range(count)))
    work = WorkFile(folder / "work.parquet")
    return _done(lambda: [work.read(shard) for shard in range(len(work))])


def sample(shards: int, folder: Path) -> Work:
    """The stage sample with so many shards of one prompt, under a sampler that costs nothing."""
    from evals.models.checkpoints import ModelSource
    from evals.models.samplers import SampledCompletion
    from schemas.parquet import write_table
    from schemas.stage import StageContext
    from schemas.tables import PROMPTS
    from stages.sample import STAGE
    from stages.sample.config import SampleConfig
    from stages.shards import sampling

    class Sampler:
        """Says the same of everything."""

        name, fingerprint = "none", "f" * 32

        def sample(self, requests: Sequence[Any], settings: Any) -> list[Any]:
            """An answer each."""
            return [SampledCompletion("An answer.", [1, 2, 0], -3.0, "stop") for _ in requests]

        def close(self) -> None:
            """Nothing."""

    setattr(sampling, "open_sampler", lambda *asked: Sampler())  # noqa: B010
    write_table(folder / "ingest" / PROMPTS.file_name, PROMPTS, _prompt_rows(shards))
    (folder / "sample").mkdir()
    config = SampleConfig(n=2, shard_size=1, model=ModelSource(path=str(folder)))
    context = StageContext({"ingest": folder / "ingest"}, folder / "sample")
    return _done(lambda: STAGE.run(config, context))


def label(shards: int, folder: Path) -> Work:
    """The stage label with so many shards of one prompt, judged by length."""
    from schemas.stage import StageContext
    from stages.label import STAGE
    from stages.label.config import LabelConfig
    from tests.benchmarks import bench_label

    bench_label.prepare(folder, shards * bench_label.COMPARISONS_A_PROMPT)
    inputs = {"sample": folder / "sample", "judge": folder / "judge"}
    context = StageContext(inputs, folder / "label")
    return _done(lambda: STAGE.run(LabelConfig(shard_size=1), context))


def judge(rows: int, folder: Path) -> Work:
    """The stage judge, of kind length: its card takes a few of so many comparisons."""
    from schemas.stage import StageContext
    from stages.judge import STAGE
    from stages.judge.config import JudgeConfig

    _ingest(folder, {"kind": "jsonl", "path": str(_pairs(rows, folder))})()
    settings = {"judge": {"kind": "length"}, "max_card_comparisons": 100}
    config = JudgeConfig.model_validate(settings)
    (folder / "judge").mkdir()
    context = StageContext({"ingest": folder / "ingest"}, folder / "judge")
    return _done(lambda: STAGE.run(config, context))


def generations(evaluations: int, folder: Path) -> Work:
    """The table of what the policy writes, at every evaluation."""
    from stages.training.monitoring.generations import Generations

    class Written(Generations):
        """Without a model."""

        def __init__(self) -> None:
            self._output, self._rows, self._starts = folder, [], []

        def add(self, step: int) -> None:
            """What an evaluation of four prompts writes."""
            said = [{"role": "assistant", "content": "An answer of some words."}]
            row = {"step": step, "prompt": said, "completion": said, "num_tokens": 6}
            row |= {"sum_logps": -3.0, "finish_reason": "stop", "well_formed": None}
            self._rows += [row | {"prompt_id": f"{i}"} for i in range(4)]
            self._write(4)

    table = Written()

    def work() -> None:
        for step in range(evaluations):
            table.add(step)
        table.close()

    return work


def record(steps: int, folder: Path) -> Work:
    """The record of a training of so many steps that could be resumed from every tenth."""
    from stages.training.monitoring.metrics import MetricsLog

    row = {f"metric/{i}": i / 7 for i in range(20)}

    def work() -> None:
        log = MetricsLog(folder, None)
        for step in range(steps):
            log.append({"step": step, **row})
            if step % 10 == 0:
                log.digest()
        log.close()
        log.write_parquet()

    return work


def keys(count: int, folder: Path) -> Work:
    """A line of JSON with so many keys, the last of which stands there twice."""
    from stages.ingest.readers.raw_rows import json_value

    names = [*range(count), count - 1]
    line = ("{" + ",".join(f'"k{n}":1' for n in names) + "}").encode()
    return _done(lambda: [json_value(line) for _ in range(10)])


def _row(number: int) -> dict[str, str]:
    return {"prompt": f"q{number}", "chosen": f"yes {number} " * 40, "rejected": "no " * 40}


def _pairs(rows: int, folder: Path) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(_row(i)) + "\n" for i in range(rows)))
    return path


def _ingest(folder: Path, dataset: Mapping[str, Any], **settings: Any) -> Work:
    """The stage ingest on one data set."""
    from schemas.stage import StageContext
    from stages.ingest import STAGE
    from stages.ingest.config import IngestConfig

    config = IngestConfig.model_validate({"datasets": [dataset], **settings})
    (folder / "ingest").mkdir()
    context = StageContext({}, folder / "ingest")
    return _done(lambda: STAGE.run(config, context))


def array(rows: int, folder: Path) -> Work:
    """Ingesting a JSON array in one line."""
    path = folder / "x.json"
    path.write_text(json.dumps([_row(i) for i in range(rows)]))
    return _ingest(folder, {"kind": "jsonl", "path": str(path)})


def unpaired(rows: int, folder: Path) -> Work:
    """Pairing good and bad answers by prompt; the one and the other are half a file apart."""
    path = folder / "x.jsonl"
    with path.open("w") as file:
        for i in range(rows):
            row = {"prompt": f"question {i % (rows // 2)}", "completion": f"answer {i}"}
            file.write(json.dumps(row | {"label": i < rows // 2}) + "\n")
    return _ingest(folder, {"kind": "kto", "path": str(path)})


def one_prompt(rows: int, folder: Path) -> Work:
    """Good answers to one prompt, which all wait for a bad one."""
    path = folder / "x.jsonl"
    with path.open("w") as file:
        for i in range(rows):
            row = {"prompt": "the same", "completion": f"answer {i}", "label": i < rows // 2}
            file.write(json.dumps(row) + "\n")
    return _ingest(folder, {"kind": "kto", "path": str(path)})


def length_filter(rows: int, folder: Path) -> Work:
    """Ingesting with the filters of length, which every other row does not pass."""
    path = folder / "x.jsonl"
    with path.open("w") as file:
        for i in range(rows):
            row = _row(i) if i % 2 else _row(i) | {"rejected": "no"}
            file.write(json.dumps(row) + "\n")
    rules = [{"kind": "length_ratio", "max_ratio": 10}, {"kind": "max_characters", "limit": 900}]
    return _ingest(folder, {"kind": "jsonl", "path": str(path)}, filters=rules)


def files(count: int, folder: Path) -> Work:
    """Ingesting so many files of few rows."""
    (folder / "many").mkdir()
    for number in range(count):
        rows = (json.dumps(_row(10 * number + i)) for i in range(10))
        (folder / "many" / f"{number}.jsonl").write_text("\n".join(rows))
    return _ingest(folder, {"kind": "jsonl", "path": str(folder / "many")})


def trace(rows: int, folder: Path) -> Work:
    """`prefline trace` of one row of a run that has so many."""
    import pyarrow.parquet as pq

    recipe = folder / "recipe.toml"
    dataset = f'[[ingest.datasets]]\nkind = "jsonl"\npath = "{_pairs(rows, folder)}"\n'
    recipe.write_text(f'name = "x"\n[ingest]\ntest_fraction = 0.1\n{dataset}')
    run = str(folder / "run")
    _command("ingest", "--recipe", str(recipe), "--run-dir", run)()
    table = folder / "run" / "ingest" / "comparisons.parquet"
    wanted = pq.read_table(table, columns=["comparison_id"])["comparison_id"][rows // 3].as_py()
    return _command("trace", wanted, "--run-dir", run)


@dataclass(frozen=True)
class Case:
    """`prepare` makes what is needed and returns the work; `streams` says that memory stays."""

    prepare: Callable[[int, Path], Work]
    sizes: tuple[int, ...]
    streams: bool = False


CASES: Mapping[str, Case] = {
    "status, rounds.n": Case(status, (1, 33, 99)),
    "sample, choosing prompts of an unsorted file": Case(prompts, (25_000, 100_000, 400_000), True),
    "a work file, shards": Case(shards, (250, 1000, 4000), True),
    "sample, shards": Case(sample, (100, 300, 900), True),
    "label, shards": Case(label, (100, 300, 900), True),
    "generations.parquet, evaluations": Case(generations, (150, 600, 2400)),
    "metrics.jsonl, steps": Case(record, (500, 2000, 8000)),
    "judge of kind length, comparisons": Case(judge, (10_000, 40_000, 120_000), True),
    "a line of JSON, keys": Case(keys, (10_000, 20_000, 40_000)),
    "ingest, rows of a JSON array": Case(array, (40_000, 120_000, 360_000, 720_000), True),
    "ingest, rows under filters of length": Case(length_filter, (5_000, 20_000, 80_000), True),
    "ingest, unpaired answers": Case(unpaired, (3_000, 9_000, 27_000)),
    "ingest, unpaired answers to one prompt": Case(one_prompt, (3_000, 9_000, 27_000)),
    "ingest, files": Case(files, (25, 75, 225), True),
    "trace, rows": Case(trace, (10_000, 40_000, 120_000), True),
}


def _seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _memory(field: str) -> float:
    """MB that this process has (VmRSS) or has had at most since `one` has asked to forget it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def one(name: str, size: int) -> tuple[float, float]:
    """CPU-seconds and MB of a case, in this process, once all is loaded."""
    place = str(IN_MEMORY) if IN_MEMORY.is_dir() else None
    with TemporaryDirectory(dir=place) as few, TemporaryDirectory(dir=place) as folder:
        CASES[name].prepare(FEW, Path(few))()
        work = CASES[name].prepare(size, Path(folder))
        Path("/proc/self/clear_refs").write_text("5")  # the height of memory so far
        start, before = _seconds(), _memory("VmRSS")
        others = work()
        seconds, memory = _seconds() - start, _memory("VmHWM") - before
        return seconds, memory if others is None else others


def measured(name: str, size: int) -> tuple[float, float]:
    """CPU-seconds and MB of a case, in a process of its own."""
    alone = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment = {**os.environ, **alone}
    command = [sys.executable, __file__, "one", name, str(size)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} at {size}: {done.stderr[-2000:]}")
    seconds, memory = map(float, done.stdout.splitlines()[-1].split())
    return seconds, memory


def too_much(name: str, found: Mapping[str, Any]) -> str | None:
    """What grows too fast of a case that has been measured, or None."""
    if found["exponent"] > MOST:
        return f"{name}: CPU grows with the power {found['exponent']}"
    if name.startswith("status") and found["times"] > MOST_TIMES:
        return f"{name}: takes {found['times']} times as long"
    if CASES[name].streams and found["peak_mb"][-1] - found["peak_mb"][0] > MOST_MB:
        return f"{name}: memory grows from {found['peak_mb'][0]} to {found['peak_mb'][-1]} MB"
    return None


def measure(name: str) -> dict[str, Any]:
    """A case at all of its sizes."""
    sizes = CASES[name].sizes
    seconds, memory = zip(*(measured(name, size) for size in sizes), strict=True)
    return {
        "sizes": sizes,
        "cpu_seconds": [round(value, 3) for value in seconds],
        "exponent": round(math.log(seconds[-1] / seconds[0]) / math.log(sizes[-1] / sizes[0]), 2),
        "times": round(seconds[-1] / seconds[0], 2),
        "peak_mb": [round(value) for value in memory],
        "streams": CASES[name].streams,
    }


def main() -> int:
    """Measure all, or be one of them; 1 where something grows too fast."""
    if sys.argv[1:2] == ["one"]:
        seconds, memory = one(sys.argv[2], int(sys.argv[3]))
        sys.stdout.write(f"{seconds} {memory}\n")
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name begins like this")
    parser.add_argument("--result", type=Path, default=RESULT)
    options = parser.parse_args()
    found = json.loads(options.result.read_text()) if options.result.exists() else {}
    for name in (name for name in CASES if name.startswith(options.only)):
        found[name] = measure(name)
        sys.stdout.write(f"{name}: {found[name]}\n")
        sys.stdout.flush()
        in_order = {known: found[known] for known in CASES if known in found}
        options.result.write_text(json.dumps(in_order, indent=1) + "\n")
    wrong = [said for name in CASES if name in found and (said := too_much(name, found[name]))]
    sys.stdout.writelines(f"{said}\n" for said in wrong)
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
