"""CPU time and memory of the train stage until its first step is done: `make bench-startup`.

60,000 pairs made of real HH rows: prompts of one row with the answers of another, each prompt with
a number of its own so that no two are alike. A 27M-parameter llama with a 32k vocabulary, one
thread, every run in a process of its own: "cold" has to screen and tokenize all pairs, "warm" finds
their tokens in the cache. The reference's log-probabilities are in the cache in both, with values
made up: how long a model needs for them depends on the model and is not start-up.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULT = Path(__file__).parent / "results" / "startup.json"
PAIRS, MAX_LENGTH = 60_000, 1024


def comparisons(count: int) -> Iterator[dict[str, Any]]:
    """Rows of COMPARISONS, all of the train split."""
    from schemas.ids import comparison_id, prompt_id
    from schemas.labels import Message
    from tests.benchmarks.bench_train import hh_rows

    rows = hh_rows()
    for number in range(count):
        turn, place = divmod(number, len(rows))
        asked, answered = rows[place], rows[(place + 7 * turn) % len(rows)]
        prompt = [Message(role="user", content=f"({number}) {asked['prompt'].strip()}")]
        sides = [
            [Message(role="assistant", content=answered[side].strip())]
            for side in ("chosen", "rejected")
        ]
        yield {
            "comparison_id": comparison_id(prompt, *sides),
            "prompt_id": prompt_id(prompt),
            "prompt": prompt,
            "completion_a": sides[0],
            "completion_b": sides[1],
            "label": "A",
            "strength": None,
            "annotations": [],
            "label_source": "human",
            "completion_a_id": None,
            "completion_b_id": None,
            "split": "train",
            "category": None,
            "source": "hh",
            "file": "harmless-base-test.jsonl.gz",
            "row": number,
        }


def prepare(folder: Path, count: int) -> None:
    """Ingest directory, model with tokenizer, and a cache that knows the reference's numbers."""
    import numpy as np

    from evals.models.checkpoints import ModelSource, load_tokenizer
    from evals.models.rendering import CHAT_TEMPLATES, ChatRenderer
    from schemas.parquet import write_table
    from schemas.tables import COMPARISONS, PROMPTS
    from stages.training.data.disk_cache import DiskCache
    from stages.training.data.pairs import PairSource, open_pairs, view_pairs
    from stages.training.data.reference_policy.reference import reference_fingerprint
    from stages.training.data.reference_policy.reference_cache import ReferenceCache, tokens_digest
    from stages.training.data.rows.rejects import Rejects
    from tests.benchmarks.bench_train import make_model, make_tokenizer

    model = folder / "model"
    make_tokenizer(model)
    make_model().save_pretrained(model)
    source = ModelSource(path=str(model))
    tokenizer = load_tokenizer(source)
    tokenizer.chat_template = CHAT_TEMPLATES["role_colon"]
    tokenizer.save_pretrained(model)
    path = folder / "ingest" / COMPARISONS.file_name
    write_table(path, COMPARISONS, comparisons(count))
    write_table(folder / "ingest" / PROMPTS.file_name, PROMPTS, [])
    scratch = DiskCache(folder / "scratch", 10**11)
    renderer, rejects = ChatRenderer(load_tokenizer(source)), Rejects("preference_pairs")
    table = open_pairs([PairSource(path, COMPARISONS)], renderer, MAX_LENGTH, scratch, rejects)
    digests = [tokens_digest(pair) for pair in view_pairs(table, table.split("train"))]
    made_of = (reference_fingerprint(source, renderer.tokenizer, "float32"), "highest", "cpu")
    cache = ReferenceCache(DiskCache(folder / "cache", 10**11), *made_of)
    for start in range(0, len(digests), 512):
        shard = digests[start : start + 512]
        cache.add(shard, np.full((len(shard), 2), -100.0))


class FirstStepDone(BaseException):
    """Stops a training after its first step."""


class StopsAfterOneStep:
    """A progress display that says when the first step is done, and what it was."""

    def __init__(self) -> None:
        self.row: Mapping[str, float | int | str] = {}
        self.opened: list[tuple[str, int | None]] = []

    @contextmanager
    def task(self, title: str, total: int | None, unit: str) -> Iterator["StopsAfterOneStep"]:
        """Note which work is begun."""
        self.opened.append((title, total))
        yield self

    def advance(self, units: int = 1) -> None:
        """Nothing is shown."""

    def metrics(self, values: Mapping[str, float | int | str]) -> None:
        """Stop at the row of the first step."""
        if values.get("step"):
            self.row = values
            raise FirstStepDone

    def note(self, message: str) -> None:
        """Nothing is shown."""

    def warn(self, message: str) -> None:
        """Nothing is shown."""


def measure(folder: Path) -> dict[str, float]:
    """The stage in this process, from its call to the end of its first step."""
    from schemas.stage import Runtime, StageContext
    from stages.train import STAGE
    from stages.train.config import TrainConfig

    config = TrainConfig.model_validate(
        {
            "model": {"path": str(folder / "model")},
            "training": {"max_length": MAX_LENGTH, "max_steps": 1, "save_every": None},
            "generations": {"prompts": 0},
        }
    )
    runtime = Runtime(device="cpu", threads=1, cache_dir=str(folder / "cache"))
    progress = StopsAfterOneStep()
    with tempfile.TemporaryDirectory() as output:
        context = StageContext({"ingest": folder / "ingest"}, Path(output), runtime, progress)
        wall = time.perf_counter()
        with suppress(FirstStepDone):
            STAGE.run(config, context)
        wall = time.perf_counter() - wall
    assert ("reference", 0) in progress.opened, "the reference was computed"
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "wall_seconds": wall,
        "peak_memory_bytes": usage.ru_maxrss * 1024,
        "pairs_of_the_step": float(progress.row["num_pairs"]),
    }


def main() -> None:
    """Prepare, run cold and warm, print and write what they measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--one", metavar="FOLDER")
    parser.add_argument("--prepare", metavar="FOLDER")
    options = parser.parse_args()
    if options.prepare:
        prepare(Path(options.prepare), options.pairs)
    elif options.one:
        sys.stdout.write(json.dumps(measure(Path(options.one))) + "\n")
    else:
        run_all(options.pairs)


def run_all(pairs: int) -> None:
    """Both runs, each in a process of its own."""
    measured: dict[str, Any] = {"pairs": pairs}
    with tempfile.TemporaryDirectory() as folder:
        call("--prepare", folder, "--pairs", str(pairs))
        for name in ("cold", "warm"):
            row = measured[name] = json.loads(call("--one", folder).splitlines()[-1])
            sys.stdout.write(
                f"{name:5} {row['cpu_seconds']:6.1f} CPU-seconds {row['wall_seconds']:6.1f} s"
                f" {row['peak_memory_bytes'] / 1e9:5.2f} GB\n"
            )
        tokens = Path(folder).glob("cache/tokens/*/tokens.arrow")
        measured["tokens_file_bytes"] = sum(file.stat().st_size for file in tokens)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")


def call(*arguments: str) -> str:
    """This script in a new process; what it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


if __name__ == "__main__":
    main()
