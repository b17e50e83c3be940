"""User CPU of `prefline --help` and `validate`, against `--help` of a bare application.

`make bench-cli`. The bare one is a Typer application of two commands that imports pydantic: what
the libraries alone cost. All three take turns in one run, each in a process of its own; of each the
least counts, which is what it takes on a machine with nothing else to do. The limit of 1.4 is the
project's own.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULT = Path(__file__).parent / "results" / "cli.json"
TURNS = 15

BARE = '''
import typer
from pydantic import BaseModel

app = typer.Typer()

@app.command()
def one(count: int = 1) -> None:
    """Do one thing."""

@app.command()
def two(count: int = 1) -> None:
    """Do another."""

app()
'''


def user_seconds(command: Sequence[str]) -> float:
    """User CPU of one process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment = kept | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def main() -> None:
    """Measure, print, and write the result."""
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE)
        prefline = [sys.executable, "-m", "pipeline"]
        commands = {
            "bare": [sys.executable, str(bare), "--help"],
            "help": [*prefline, "--help"],
            "validate": [*prefline, "validate", "--recipe", "food"],
        }
        for command in commands.values():
            user_seconds(command)  # compiles what is not compiled yet
        turns = [{name: user_seconds(c) for name, c in commands.items()} for _ in range(TURNS)]
    least = {name: min(turn[name] for turn in turns) for name in commands}
    ratios = {name: least[name] / least["bare"] for name in ("help", "validate")}
    for name, ratio in ratios.items():
        sys.stdout.write(f"{name:9} {least[name]:.2f} s, {ratio:.2f} times the bare application\n")
    found = {"turns": TURNS, "user_seconds": least, "ratios": ratios}
    RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
