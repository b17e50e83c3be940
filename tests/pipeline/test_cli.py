"""The command line from outside: as a person, a script, make or a signal meets it."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.main import get_command

from pipeline.cli import app
from stages.training.monitoring.metrics import PERFORMANCE
from tests.fixtures.command_line import (
    ROOT,
    TINY,
    environment,
    hashes,
    interrupt,
    on,
    prefline,
    refusal,
    start,
)
from tests.fixtures.forks import CAN_FORK, FORKING_PYTHON, server_address
from tests.fixtures.patience import PATIENCE

COMMANDS = sorted(get_command(app).commands)  # type: ignore[attr-defined]
STAGES = ("ingest", "sft", "judge", "sample", "label", "train", "evaluate", "report")


def forget_from(run_dir: Path, stage: str) -> None:
    """Delete a stage and all that follow it."""
    for name in STAGES[STAGES.index(stage) :]:
        shutil.rmtree(run_dir / name)


def mtimes(run_dir: Path) -> dict[str, int]:
    """When each file but the records was last written."""
    return {
        str(path): path.stat().st_mtime_ns
        for path in run_dir.glob("*/*")
        if path.is_file() and path.name != "manifest.json" and path.parent.name != ".locks"
    }


def curve(run_dir: Path) -> list[dict[str, Any]]:
    """The rows of the training record, without what depends on the machine."""
    rows: list[dict[str, Any]] = pq.read_table(run_dir / "train" / "metrics.parquet").to_pylist()
    return [{k: v for k, v in row.items() if k not in PERFORMANCE} for row in rows]


# Help


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_of_every_command(name: str) -> None:
    done = prefline(*([name] if name else []), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage:" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_help_of_a_stage_loads_nothing_heavy() -> None:
    """What help costs is a ratio in a benchmark; here stands only why it is small."""
    heavy = (
        "torch",
        "transformers",
        "vllm",
        "datasets",
        "inspect_ai",
        "polars",
        "pyarrow",
        "numpy",
    )
    code = (
        "import sys; sys.argv = ['prefline', 'train', '--help']\n"
        "from pipeline.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Usage:" in done.stdout
    assert done.stderr.strip() == "[]"


# Second runs


def test_second_run_does_nothing(run_dir: Path) -> None:
    before = mtimes(run_dir)
    done = prefline(*on(run_dir, "run"))
    assert done.returncode == 0
    assert done.stderr.splitlines() == [f"{stage}: up to date" for stage in STAGES]
    assert f"Report: {run_dir / 'report' / 'index.html'}" in done.stdout.replace("\n", "")
    assert mtimes(run_dir) == before


def test_changed_judge_reruns_label_and_not_sample(run_dir: Path) -> None:
    before = mtimes(run_dir)
    changed = on(run_dir, "run", "judge.max_card_comparisons=10")
    done = prefline(*changed, "--until", "label")
    assert done.returncode == 0, done.stderr
    outcomes = dict(line.split(": ") for line in done.stderr.splitlines() if line.count(": ") == 1)
    assert outcomes["sample"] == "up to date"
    assert outcomes["label"] == "done"
    after = mtimes(run_dir)
    assert {path for path in before if before[path] != after[path]} == {
        path for path in before if Path(path).parent.name in ("judge", "label")
    }


def test_stale_upstream_is_refused_with_field_and_command(run_dir: Path) -> None:
    before = hashes(run_dir, "*.*")
    said = refusal(prefline(*on(run_dir, "label", "sample.n=3")))
    assert "config.n: 4 -> 3" in said
    assert "prefline sample" in said
    assert hashes(run_dir, "*.*") == before


def test_truncated_table_is_refused(run_dir: Path) -> None:
    table = run_dir / "sample" / "completions.parquet"
    os.truncate(table, table.stat().st_size // 2)
    said = refusal(prefline(*on(run_dir, "label", "label.min_margin=0.3")))
    assert "completions.parquet has" in said
    assert "bytes instead of" in said
    assert "prefline sample" in said


def test_run_directory_with_spaces_and_a_recipe_by_path(tmp_path: Path) -> None:
    folder = tmp_path / "my runs" / "first one"
    assert prefline(*on(folder, "ingest")).returncode == 0
    said = refusal(prefline(*on(folder, "sample")))
    assert f"'{folder}'" in said, "the command to run has to survive the shell"


def test_list_items_are_set_by_index(tmp_path: Path) -> None:
    done = prefline(
        "validate", "--recipe", TINY, "--json", "--set", "ingest.datasets.0.people=30",
        "--set", 'evaluate.tasks=["food_preference", "preference_accuracy"]',
        "--set", "evaluate.tasks.1=pairwise_win_rate",
    )  # fmt: skip
    stages = json.loads(done.stdout)["stages"]
    assert stages["ingest"]["datasets"][0]["people"] == 30
    assert stages["evaluate"]["tasks"] == ["food_preference", "pairwise_win_rate"]


def test_shipped_recipe_goes_by_its_name(tmp_path: Path) -> None:
    done = prefline("validate", "--recipe", "food", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["name"] == "food"


# Signals


def states(run_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(prefline(*on(run_dir, "status"), "--json").stdout)
    return found


def test_sample_killed_and_run_again_gives_the_same_tables(run_dir: Path, finished: Path) -> None:
    forget_from(run_dir, "sample")
    shards = run_dir / "sample.partial" / "shards"
    killed = interrupt(
        on(run_dir, "sample"), lambda: len(list(shards.glob("[0-9]" * 8))) >= 2, signal.SIGKILL
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (run_dir / "sample").exists()
    done = prefline(*on(run_dir, "sample"))
    assert "sample: continuing where it was interrupted" in done.stderr
    assert hashes(run_dir / "sample") == hashes(finished / "sample")


def test_status_says_how_far_an_interrupted_stage_came(run_dir: Path) -> None:
    forget_from(run_dir, "sample")
    shards = run_dir / "sample.partial" / "shards"
    interrupt(on(run_dir, "sample"), lambda: any(shards.glob("[0-9]" * 8)), signal.SIGINT)
    found = states(run_dir)["sample"]
    assert found["state"] == "interrupted"
    assert re.match(r"sampling: \d+/64 completions", found["why"])
    assert prefline(*on(run_dir, "sample")).returncode == 0
    assert states(run_dir)["sample"]["state"] == "fresh"


def test_label_killed_and_run_again_gives_the_same_tables(run_dir: Path, finished: Path) -> None:
    forget_from(run_dir, "label")
    shards = run_dir / "label.partial" / "shards"
    interrupt(on(run_dir, "label"), lambda: any(shards.glob("[0-9]" * 8)), signal.SIGKILL)
    assert not (run_dir / "label").exists()
    done = prefline(*on(run_dir, "label"))
    assert "label: continuing where it was interrupted" in done.stderr
    assert hashes(run_dir / "label") == hashes(finished / "label")


def test_train_killed_and_run_again_gives_the_same_curve(run_dir: Path, finished: Path) -> None:
    forget_from(run_dir, "train")
    checkpoint = run_dir / "train.partial" / "resume" / "step-4"
    interrupt(on(run_dir, "train"), checkpoint.exists, signal.SIGKILL)
    assert not (run_dir / "train").exists()
    done = prefline(*on(run_dir, "train"))
    assert "train: continuing where it was interrupted" in done.stderr
    assert curve(run_dir) == curve(finished)
    weights = "*.safetensors"
    assert hashes(run_dir / "train", weights) == hashes(finished / "train", weights)


def test_interrupted_sample_says_so_and_continues(run_dir: Path, finished: Path) -> None:
    forget_from(run_dir, "sample")
    shards = run_dir / "sample.partial" / "shards"
    done = interrupt(on(run_dir, "sample"), lambda: any(shards.glob("[0-9]" * 8)), signal.SIGINT)
    said = refusal(done)
    assert said.startswith("error: interrupted; nothing is lost: run `prefline sample --recipe")
    assert prefline(*on(run_dir, "sample")).returncode == 0
    assert hashes(run_dir / "sample") == hashes(finished / "sample")


def test_terminated_train_says_so_and_keeps_its_checkpoint(run_dir: Path) -> None:
    forget_from(run_dir, "train")
    checkpoints = run_dir / "train.partial" / "resume"
    moment = (checkpoints / "step-2").exists
    said = refusal(interrupt(on(run_dir, "train"), moment, signal.SIGTERM))
    assert said.startswith("error: interrupted; nothing is lost: run `prefline train --recipe")
    assert any(checkpoints.glob("step-*"))


def test_second_process_is_told_and_touches_nothing(run_dir: Path) -> None:
    forget_from(run_dir, "sample")
    shards = run_dir / "sample.partial" / "shards"
    process = start(*on(run_dir, "sample"))
    try:
        while not any(shards.glob("[0-9]" * 8)) and process.poll() is None:
            time.sleep(0.0005)
        process.send_signal(signal.SIGSTOP)
        assert states(run_dir)["sample"]["state"] == "running"
        before = hashes(run_dir, "*.*")
        seen = [refusal(prefline(*on(run_dir, stage))) for stage in ("sample", "run")]
        assert hashes(run_dir, "*.*") == before
    finally:
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert all(f"process {process.pid} is working here" in said for said in seen)


# Looking into a run


def test_status_as_json(run_dir: Path) -> None:
    shutil.rmtree(run_dir / "report")
    done = prefline(*on(run_dir, "status", "train.training.seed=1"), "--json")
    states = {name: entry["state"] for name, entry in json.loads(done.stdout).items()}
    assert states == {
        **dict.fromkeys(("ingest", "sft", "judge", "sample", "label"), "fresh"),
        "train": "stale",
        "evaluate": "stale",
        "report": "missing",
    }
    for_people = prefline(*on(run_dir, "status", "train.training.seed=1")).stdout.splitlines()
    assert sum(line.startswith(("train ", "judge ", "report ")) for line in for_people) == 3
    [going_on] = [line for line in for_people if line.startswith("next: ")]
    assert going_on.endswith(f"--run-dir {run_dir} --set train.training.seed=1")


def test_stage_and_run_as_json(run_dir: Path) -> None:
    stage = json.loads(prefline(*on(run_dir, "ingest"), "--json").stdout)
    assert stage["outcome"] == "up to date"
    assert stage["counts"]["comparisons"] == 120
    summary = json.loads(prefline(*on(run_dir, "run"), "--json").stdout)
    assert set(summary["win_rate"]["truth"]) >= {"value", "ci_low", "ci_high", "n"}


def test_show_a_row_by_number_and_by_id(finished: Path) -> None:
    last = prefline("show", "prompts", "--run-dir", finished, "--row", "-1", "--json")
    row = json.loads(last.stdout)
    assert set(row["prompt"][0]) == {"role", "content"}
    by_id = ("show", "ingest/prompts", "--run-dir", finished, "--id", row["prompt_id"][:12])
    assert json.loads(prefline(*by_id, "--json").stdout) == row
    assert row["prompt"][0]["content"] in prefline(*by_id).stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("nothing",), "nothing: no such table; there are evaluate/comparisons"),
        (("prompts", "--row", "60"), "has 60 rows; --row 60 is none of them"),
        (("prompts", "--id", "zzz"), "no prompt_id begins with zzz"),
        ((TINY,), "not a Parquet file"),
    ],
)
def test_show_of_what_is_not_there(
    finished: Path, arguments: tuple[object, ...], expected: str
) -> None:
    assert expected in refusal(prefline("show", *arguments, "--run-dir", finished))


def test_trace_leads_a_pair_back_to_the_generator(finished: Path) -> None:
    pair = pq.read_table(finished / "label" / "preference_pairs.parquet").to_pylist()[0]
    done = prefline("trace", pair["pair_id"][:16], "--run-dir", finished, "--json")
    steps = json.loads(done.stdout)
    tables = [step.get("table") for step in steps]
    assert tables[0] == "label/preference_pairs.parquet"
    assert tables.count("label/verdicts.parquet") == 2
    assert tables.count("sample/completions.parquet") == 2
    assert tables[-2] == "ingest/prompts.parquet"
    prompt = steps[-2]["row"]
    assert prompt["prompt"] == pair["prompt"]
    assert steps[-1] == {
        "raw": "food:seed=3",
        "line": prompt["row"],
        "text": None,
        "changed": False,
    }
    for_people = prefline("trace", pair["pair_id"], "--run-dir", finished).stdout
    assert f"food:seed=3, row {prompt['row']} (from 0)" in for_people
    assert len(for_people.splitlines()) <= len(steps) + 1


def test_trace_leads_a_comparison_back_to_the_raw_line(tmp_path: Path) -> None:
    raw = tmp_path / "mine.jsonl"
    lines = [
        json.dumps({"prompt": f"say {n}", "chosen": f"{n}, grüße", "rejected": "no"})
        for n in range(6)
    ]
    raw.write_text("\n".join(lines) + "\n")
    settings = f'ingest.datasets.0={{kind="jsonl",path="{raw}"}}'
    assert prefline(*on(tmp_path / "run", "ingest", settings)).returncode == 0
    rows = pq.read_table(tmp_path / "run" / "ingest" / "comparisons.parquet").to_pylist()
    for row in rows[:2]:
        done = prefline("trace", row["comparison_id"], "--run-dir", tmp_path / "run", "--json")
        last = json.loads(done.stdout)[-1]
        said = {"text": lines[row["row"]], "changed": False}
        assert last == {"raw": str(raw), "line": row["row"]} | said


def test_trace_of_an_unknown_id(finished: Path) -> None:
    said = refusal(prefline("trace", "zzz", "--run-dir", finished))
    assert "zzz: no pair, comparison, completion or prompt" in said


# Make

make = pytest.mark.skipif(
    shutil.which("make") is None or not (ROOT / ".venv" / "base.stamp").exists(),
    reason="needs make, and the .venv it makes",
)


def run_make(*arguments: str, **settings: str) -> str:
    done = subprocess.run(
        # Never install anything: what is in .venv is what is tested.
        ["make", "-o", ".venv/base.stamp", *arguments],
        cwd=ROOT,
        env=environment() | settings,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@make
def test_make_knows_the_chain() -> None:
    lines = run_make("-n", "RUN=x", f"RECIPE={TINY}", "sample").splitlines()
    asked = [line.split("-m pipeline ")[1].split()[0] for line in lines if "-m pipeline" in line]
    assert asked == ["ingest", "sft", "sample"]


@make
def test_make_side_by_side_and_again(run_dir: Path, tmp_path: Path) -> None:
    forget_from(run_dir, "judge")
    arguments = [f"RECIPE={TINY}", f"OUT={run_dir}", "label"]
    settings = {}
    if CAN_FORK:
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\nexec {shlex.join(FORKING_PYTHON)} "$@"\n')
        python.chmod(0o755)
        arguments, settings = [f"PYTHON={python}", *arguments], server_address()
    run_make("-j2", *arguments, **settings)
    assert (run_dir / "label" / "manifest.json").exists()
    assert "Nothing to be done" in run_make(*arguments, **settings)
