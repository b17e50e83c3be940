"""A killed run goes on at the file it was in; whatever happens, the tables come out the same."""

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from evals.files.opening import unpacking
from schemas.stage import StageContext
from stages.ingest import STAGE
from stages.ingest.config import IngestConfig
from stages.ingest.frames import blocks
from tests.fixtures.command_line import script
from tests.fixtures.ingest import pair
from tests.fixtures.patience import PATIENCE

TABLES = ("prompts", "demonstrations", "comparisons", "rejects")
FILES = 4


def write_files(folder: Path) -> None:
    """Files that share prompts and rows, say different splits, and hold bad lines."""
    folder.mkdir()
    for number in range(FILES):
        rows = [{**pair(i), "rejected": f"bad {i % 7} {number % 2}"} for i in range(number, 40)]
        lines = [json.dumps(row).encode() for row in rows] + [b"{", b'{"chosen": "\xff"}']
        name = f"{'test' if number == 2 else 'train'}-{number}.jsonl.gz"
        (folder / name).write_bytes(gzip.compress(b"\n".join(lines) + b"\n", mtime=0))


def config(folder: Path) -> IngestConfig:
    dataset = {"kind": "jsonl", "path": str(folder), "keep_source_split": True}
    return IngestConfig.model_validate({"datasets": [dataset]})


def run(folder: Path, output: Path) -> dict[str, bytes]:
    STAGE.run(config(folder), StageContext(inputs={}, output=output))
    return {name: (output / f"{name}.parquet").read_bytes() for name in TABLES}


KILLED = """
import os, signal, sys
from pathlib import Path
from schemas.stage import StageContext
from stages.ingest import STAGE, IngestConfig
from schemas import files
from stages.ingest import run
from stages.ingest.near_duplicates import text_index
from stages.ingest.tables import row_cache
config, output, where = sys.argv[1:]
left = int(where.split(":")[1])
def deadly(function):
    def wrapped(*arguments, **named):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return function(*arguments, **named)
    return wrapped
if where.startswith("append"):
    row_cache.UnitWriter.append = deadly(row_cache.UnitWriter.append)
elif where.startswith("finish"):
    files._seal = deadly(files._seal)
elif where.startswith("band"):
    text_index.bucket_pairs = deadly(text_index.bucket_pairs)
else:
    run.publish = deadly(run.publish)
STAGE.run(IngestConfig.model_validate_json(config), StageContext(inputs={}, output=Path(output)))
"""


@pytest.mark.parametrize(
    "where", ["append:0", "append:2", "finish:1", "finish:3", "band:7", "publish:0"]
)
def test_a_killed_run_reads_no_finished_file_again(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path / "in")
    whole = run(tmp_path / "in", tmp_path / "whole")
    output = tmp_path / "killed"
    arguments = [config(tmp_path / "in").model_dump_json(), str(output), where]
    assert script(KILLED, *arguments).wait(PATIENCE) == -signal.SIGKILL
    finished = sorted(p.name for p in (output / "units").iterdir() if not p.suffix)
    all_read = where in ("band:7", "publish:0")
    assert len(finished) == (FILES if all_read else int(where[-1]))
    assert (output / "units" / "cleaning.scratch").exists() == (where == "band:7")
    opened: list[str] = []
    original = unpacking._open

    def noted(path: Path) -> object:
        opened.append(path.name)
        return original(path)

    monkeypatch.setattr(unpacking, "_open", noted)
    assert run(tmp_path / "in", output) == whole
    names = sorted(p.name for p in (tmp_path / "in").iterdir())
    assert opened == names[len(finished) :]
    assert sorted(p.name for p in output.iterdir()) == sorted(f"{n}.parquet" for n in TABLES)


def test_the_bytes_do_not_depend_on_the_size_of_blocks(
    tmp_path: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = real_data / "hh-rlhf" / "harmless-base-test.jsonl.gz"
    settings = IngestConfig.model_validate({"datasets": [{"kind": "hh", "path": str(path)}]})
    made = []
    for size in (1 << 15, 1 << 18, 8 << 20):
        monkeypatch.setattr(blocks, "BLOCK_BYTES", size)
        output = tmp_path / str(size)
        STAGE.run(settings, StageContext(inputs={}, output=output))
        made.append([(output / f"{name}.parquet").read_bytes() for name in TABLES])
    assert made[0] == made[1] == made[2]


def test_the_bytes_do_not_depend_on_threads(tmp_path: Path, real_data: Path) -> None:
    path = real_data / "hh-rlhf" / "harmless-base-test.jsonl.gz"
    settings = IngestConfig.model_validate({"datasets": [{"kind": "hh", "path": str(path)}]})
    made = []
    for threads in ("1", "4"):
        output = tmp_path / threads
        arguments = [settings.model_dump_json(), str(output), "publish:1"]
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "POLARS_MAX_THREADS": threads,
        }
        subprocess.run([sys.executable, "-c", KILLED, *arguments], env=environment, check=True)
        made.append([(output / f"{name}.parquet").read_bytes() for name in TABLES])
    assert made[0] == made[1]
