"""Peak memory of train, sample and judge, estimated and measured: a process a case, on a CPU.

`python tests/benchmarks/bench_memory.py MODEL` prints a table and writes results/memory.json;
MODEL is the folder of SmolLM2-135M. A case is measured above what the process takes before it
loads the model. What was measured before, and is not measured now, keeps its day, and its estimate
is worked out anew.
"""

import argparse
import importlib
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.memory_cases import CASES, MODELS, REAL, config_of

RESULTS = Path(__file__).parent / "results" / "memory.json"


def measured(real: str, name: str) -> int:
    """Bytes of a case, run in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        model = real
        if CASES[name].model != REAL:
            model = folder
            _child("--build", CASES[name].model, folder)
        return int(_child("--case", name, model).splitlines()[-1])


def _child(*words: str) -> str:
    command = [sys.executable, "-m", "tests.benchmarks.bench_memory", *words]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def build(model: str, folder: str) -> None:
    """A random model on disk."""
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_config(config_of(model)).save_pretrained(folder)


def run_case(name: str, folder: str) -> None:
    """Prints what a case took."""
    torch.set_num_threads(1)
    case = CASES[name]
    family = MODELS[case.model][0]
    importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    if case.stage == "train" and case.settings.optimizer_states == "int8":
        importlib.import_module("bitsandbytes")
    idle = _peak()
    case.run(folder)
    print(_peak() - idle)  # noqa: T201


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(real: str, names: Sequence[str]) -> None:
    """Cases, each written as soon as it is there."""
    rows: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    rows = {name: rows[name] for name in CASES if name in rows}
    for name in names:
        rows[name] = {"measured": measured(real, name), "day": str(datetime.now(UTC).date())}
        write(rows)
        print(line(name, rows[name]), flush=True)  # noqa: T201


def write(rows: dict[str, Any]) -> None:
    """Estimates of all that was measured, and the file."""
    for name, row in rows.items():
        if "before" in row:  # what it was measured on has changed since
            continue
        row["estimated"] = CASES[name].bill().total
        row["ratio"] = round(row["estimated"] / row["measured"], 3)
    RESULTS.write_text(json.dumps(rows, indent=2, sort_keys=True) + "\n")


def line(name: str, row: dict[str, Any]) -> str:
    """A row of the table in docs/memory.md."""
    said, took = row["estimated"] / 1e9, row["measured"] / 1e9
    return f"| {name} | {said:.2f} GB | {took:.2f} GB | {row['ratio']:.2f} |"


def main() -> None:
    """Measure one case, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", help="the folder of SmolLM2-135M")
    parser.add_argument("--only", nargs="*", choices=CASES, help="measure these; none: only print")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--build", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.case:
        return run_case(*chosen.case)
    if chosen.build:
        return build(*chosen.build)
    measure(chosen.model, list(CASES) if chosen.only is None else chosen.only)
    rows = json.loads(RESULTS.read_text())
    write(rows)
    if chosen.only == []:
        print("\n".join(line(name, rows[name]) for name in CASES if name in rows))  # noqa: T201


if __name__ == "__main__":
    main()
