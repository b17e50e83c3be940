"""A sample of all kills: `make faults` does every one."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.harness import RECIPE, STAGES, build_library

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_library_counts_what_other_libraries_change_and_kills(tmp_path: Path) -> None:
    script = """
import ctypes, os, sqlite3, sys
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
import numpy as np
from safetensors.numpy import save_file
folder, at = Path(sys.argv[1]), int(sys.argv[2])
library = ctypes.CDLL(None)
library.kill_at_arm(str(folder).encode(), ctypes.c_long(at))
done = []
def count(name, act):
    before = library.kill_at_count()
    act()
    assert library.kill_at_count() > before, name
    done.append(name)
count("python", lambda: (folder / "a").write_text("a"))
count("rename", lambda: os.replace(folder / "a", folder / "b"))
count("pyarrow", lambda: pq.write_table(pa.table({"a": [1]}), folder / "c"))
count("safetensors", lambda: save_file({"a": np.zeros(3)}, folder / "d"))
def database():
    connection = sqlite3.connect(folder / "e")
    connection.execute("create table t (a)")
    connection.commit()
count("sqlite", database)
before = library.kill_at_count()
Path(sys.argv[3]).write_text("elsewhere")
assert library.kill_at_count() == before
print(before)
"""
    environment = {"LD_PRELOAD": str(build_library(tmp_path)), "PATH": "/usr/bin:/bin"}
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"

    def run(at: int) -> "subprocess.CompletedProcess[str]":
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        command = [sys.executable, "-c", script, str(folder), str(at), str(elsewhere)]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    whole = run(0)
    assert whole.returncode == 0, whole.stderr
    calls = int(whole.stdout)
    assert run(1).returncode == run(calls).returncode == -9
    assert list(folder.iterdir())
    assert run(calls + 1).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_sample_of_kills_and_troubles_makes_no_difference(tmp_path: Path) -> None:
    assert RECIPE.exists()
    kills = ["--stages", ",".join(STAGES), "--every", "240", "--first", "17"]
    sample = [*kills, "--troubles", "8"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.run_all", *sample],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["kills"] >= 20
    assert told["troubles"] == 8
