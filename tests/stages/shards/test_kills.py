"""Killed at thirty random moments, a labelling run loses no verdict and doubles none."""

import random
import signal
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from evals.judges import LengthJudge, save_judge
from schemas.parquet import write_table
from schemas.stage import Runtime
from schemas.tables import COMPLETIONS
from tests.fixtures.command_line import script
from tests.fixtures.comparisons import completion_row
from tests.fixtures.patience import PATIENCE

KILLS, PROMPTS, SHARD = 30, 400, 4

# A judge that takes its time, and notes what it was asked before it answers.
LABEL = f"""
import os, sys, time
from pathlib import Path
from evals.judges.kinds import length
from schemas.stage import StageContext
from stages.label import STAGE, LabelConfig
folder = Path(sys.argv[1])
judge = length.LongerWins.judge
asked = os.open(folder / "asked.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def slowly(self, shown):
    os.write(asked, "".join(f"{{c.comparison_id}}\\n" for c in shown).encode())
    time.sleep(0.02)
    return judge(self, shown)
length.LongerWins.judge = slowly
inputs = {{"sample": folder / "sample", "judge": folder / "judge"}}
STAGE.run(LabelConfig(shard_size={SHARD}), StageContext(inputs, folder / "label"))
"""


def prepare(folder: Path) -> Path:
    rows = [
        completion_row(f"question {i}?", "w" * (1 + (i * 7 + j * 5) % 23), j)
        for i in range(PROMPTS)
        for j in range(3)
    ]
    write_table(folder / "sample" / COMPLETIONS.file_name, COMPLETIONS, rows)
    (folder / "judge").mkdir()
    save_judge(folder / "judge", LengthJudge(), Runtime())
    (folder / "label").mkdir()
    return folder


def finished(folder: Path) -> int:
    return len(list((folder / "label" / "shards").glob("[0-9]" * 8)))


@pytest.mark.slow
def test_thirty_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    whole, killed = prepare(tmp_path / "whole"), prepare(tmp_path / "killed")
    assert script(LABEL, whole).wait(PATIENCE) == 0
    moments = random.Random(30)
    done = [0]
    for _ in range(KILLS):
        process = script(LABEL, killed)
        # Some die before they have done anything, most in the middle of a shard.
        goal, deadline = finished(killed) + moments.randrange(4), time.monotonic() + PATIENCE
        while finished(killed) < goal and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(moments.random() * 0.03)
        process.send_signal(signal.SIGKILL)
        assert process.wait(PATIENCE) == -signal.SIGKILL
        done.append(finished(killed))
        assert done[-1] >= done[-2]  # what was finished stays so
    assert 0 < done[-1] < PROMPTS // SHARD
    assert script(LABEL, killed).wait(PATIENCE) == 0

    def tables(folder: Path) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in (folder / "label").iterdir()}

    assert tables(killed) == tables(whole)
    verdicts = pq.read_table(killed / "label" / "verdicts.parquet")
    keys = Counter(zip(verdicts["comparison_id"], verdicts["order"], strict=True))
    assert max(keys.values()) == 1
    asked = Counter((killed / "asked.txt").read_text().splitlines())
    once = Counter((whole / "asked.txt").read_text().splitlines())
    assert asked.keys() == once.keys()
    # A kill costs the shard in flight and no other.
    assert (asked - once).total() <= KILLS * SHARD * 3 * 2
