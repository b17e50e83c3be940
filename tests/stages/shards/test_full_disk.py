"""A full disk: one error that says where, nothing half made, and the same command goes on."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from evals.models.samplers import TransformersSampler
from schemas.parquet import write_table
from schemas.stage import Runtime, StageContext
from schemas.tables import COMPLETIONS, PROMPTS, REJECTS
from stages.sample import STAGE
from stages.sample.config import SampleConfig
from stages.shards.results import Results
from tests.fixtures.patience import PATIENCE
from tests.fixtures.preferences import prompt
from tests.fixtures.tiny_models import tiny_llama

ROOT = Path(__file__).parents[3]
CONFIG = SampleConfig(
    sampler=TransformersSampler(), n=2, max_tokens=4, shard_size=1, max_dev_prompts=None
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("run")
    tiny_llama(folder / "sft" / "model")
    rows = [prompt(f"person {i}", i) for i in range(24)]
    write_table(folder / "ingest" / PROMPTS.file_name, PROMPTS, rows)
    return {"ingest": folder / "ingest", "sft": folder / "sft"}


def context(inputs: dict[str, Path], output: Path) -> StageContext:
    return StageContext(inputs, output, Runtime(device="cpu", threads=1))


def tables(folder: Path) -> list[bytes]:
    return [(folder / table.file_name).read_bytes() for table in (COMPLETIONS, REJECTS)]


def test_a_shard_that_cannot_be_written_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "Error writing bytes to file")  # as Arrow says it

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OSError, match="No space left on device") as raised:
        Results(tmp_path, (PROMPTS,)).write(3, {PROMPTS.name: [prompt("p")]}, {})
    assert raised.value.errno == errno.ENOSPC
    assert raised.value.filename == str(tmp_path / "shards" / "00000003")
    assert list((tmp_path / "shards").iterdir()) == []


# A file system of its own, where the machine lets tests have one: it fills up while the stage
# runs, is made larger, and the same stage goes on.
SCRIPT = """
import json, subprocess, sys
from pathlib import Path
from schemas.stage import Runtime, StageContext
from stages.sample import STAGE, SampleConfig
disk, inputs, config, result = Path(sys.argv[1]), *map(json.loads, sys.argv[2:4]), Path(sys.argv[4])
mount = ["mount", "-t", "tmpfs", "-o"]
if subprocess.run([*mount, "size=128k", "none", str(disk)], stderr=subprocess.DEVNULL).returncode:
    sys.exit(77)
inputs = {name: Path(path) for name, path in inputs.items()}
context = StageContext(inputs, disk / "sample", Runtime(device="cpu", threads=1))
config = SampleConfig.model_validate(config)
try:
    STAGE.run(config, context)
    said = None
except OSError as error:
    said = [error.errno, error.strerror, error.filename]
shards = sorted(path.name for path in (disk / "sample" / "shards").iterdir())
subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
STAGE.run(config, context)
for table in (disk / "sample").glob("*.parquet"):
    (result / table.name).write_bytes(table.read_bytes())
print("RESULT" + json.dumps({"said": said, "shards": shards}))
"""


def test_a_disk_that_fills_up_costs_the_shard_in_flight(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    disk, result = tmp_path / "disk", tmp_path / "result"
    disk.mkdir()
    result.mkdir()
    given = json.dumps({name: str(path) for name, path in inputs.items()})
    arguments = [sys.executable, "-c", SCRIPT, str(disk), given, CONFIG.model_dump_json()]
    try:
        done = subprocess.run(
            ["unshare", "--map-root-user", "--mount", *arguments, str(result)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("no unshare on this machine")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this machine lets no test have a file system of its own")
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.rpartition("RESULT")[2])
    number, words, where = found["said"]
    assert (number, words) == (errno.ENOSPC, "No space left on device")
    assert str(disk) in where
    assert 0 < len(found["shards"]) < 24
    assert all(name.isdigit() for name in found["shards"])
    STAGE.run(CONFIG, context(inputs, tmp_path / "undisturbed"))
    assert tables(result) == tables(tmp_path / "undisturbed")
