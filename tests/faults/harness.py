"""Kills commands before their n-th change of a file, runs them again, and compares the bytes.

The server has imported everything once, under the library that counts; each command runs in a fork
of it. Nothing is patched: the counting is done where C, Rust and Python meet the file system.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent
RECIPE = HERE / "faults.toml"
# What of a run is about the machine and the hour, not about its content.
_ABOUT_THE_MACHINE = ("tokens_per_second", "peak_memory_bytes")
_SECONDS = 300


def build_library(folder: Path) -> Path:
    """Compile the library that counts and kills."""
    library = folder / "kill_at.so"
    command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(HERE / "kill_at.c"), "-ldl"]
    subprocess.run(command, check=True)
    return library


@dataclass
class Ended:
    """How a command ended: its exit code, -9 where it was killed, and all that it said."""

    code: int
    said: str
    calls: int = 0

    @property
    def traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.said


@dataclass
class Tally:
    """What came of all trials of one command."""

    name: str
    calls: int
    kills: int = 0
    differences: int = 0
    tracebacks: int = 0
    hands_needed: int = 0
    faults: list[dict[str, Any]] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not (self.differences or self.tracebacks or self.hands_needed)

    def to_json(self) -> dict[str, Any]:
        """For the record of the counts."""
        return {k: v for k, v in vars(self).items() if k != "faults"}


def run_command(arguments: Sequence[str], folder: Path, at: int = 0) -> Ended:
    """Run the command line in a fork, killed before change number `at` below `folder`."""
    log, calls = folder.parent / "said.txt", folder.parent / "calls.txt"
    calls.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _be_the_command(arguments, folder, at, log, calls)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.alarm(_SECONDS)
    _, status = os.waitpid(child, 0)
    signal.alarm(0)
    counted = int(calls.read_text()) if calls.exists() else 0
    return Ended(os.waitstatus_to_exitcode(status), log.read_text(errors="replace"), counted)


def _be_the_command(
    arguments: Sequence[str], folder: Path, at: int, log: Path, calls: Path
) -> None:
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ["PREFLINE_CACHE"] = str(folder / "cache")
        sys.argv = ["prefline", *arguments]
        from pipeline.cli import run_cli

        library = ctypes.CDLL(None)
        library.kill_at_arm(str(folder).encode(), ctypes.c_long(at))
        try:
            run_cli()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else int(left.code is not None)
        calls.write_text(str(library.kill_at_count()))
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def import_everything(folder: Path, commands: Sequence[Sequence[str]]) -> None:
    """Import what the commands will need: found out in forks, so that no thread is running here."""
    listed = folder / "modules.json"
    child = os.fork()
    if child == 0:
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            os.environ["PREFLINE_CACHE"] = str(folder / "warm" / "cache")
            from pipeline.cli import run_cli

            for arguments in commands:
                sys.argv = ["prefline", *arguments]
                with suppress(SystemExit):
                    run_cli()
            listed.write_text(json.dumps(list(sys.modules)))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    for name in json.loads(listed.read_text()):
        if not name.startswith("__"):
            with suppress(BaseException):
                import_module(name)


def contents(folder: Path) -> dict[str, Any]:
    """All files of a run, as what must not depend on when and how often it was interrupted."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if name.startswith("cache/") or "/.locks/" in name:
            continue
        found[name] = _content(path)
    return found


def _content(path: Path) -> Any:
    if path.name == "manifest.json":
        manifest = json.loads(path.read_text())
        names = sorted(manifest["outputs"])
        return {k: v for k, v in manifest.items() if k not in ("provenance", "outputs")} | {
            "outputs": names
        }
    if path.name == "metrics.parquet":
        table = pq.read_table(path)
        return table.drop_columns([c for c in _ABOUT_THE_MACHINE if c in table.column_names])
    if path.name == "metrics.jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return [{k: v for k, v in r.items() if k not in _ABOUT_THE_MACHINE} for r in rows]
    return path.read_bytes()


def differing(left: dict[str, Any], right: dict[str, Any]) -> list[str]:
    """The files in which two runs differ."""
    names = sorted(left.keys() | right.keys())
    return [name for name in names if name not in left or left.get(name) != right.get(name)]


class Case:
    """One command on one state of a run directory."""

    def __init__(self, name: str, arguments: Sequence[str], work: Path, base: Path) -> None:
        self.name, self._arguments = name, arguments
        self._folder, self._base = work / "case", base
        self._fresh()
        whole = run_command(arguments, self._folder)
        if whole.code != 0:
            raise RuntimeError(f"{name}: fails undisturbed: {whole.said}")
        self._expected = contents(self._folder)
        self.tally = Tally(name, whole.calls)

    def keep(self, place: Path) -> None:
        """Keep the undisturbed result as the start of the next command."""
        self._fresh()
        run_command(self._arguments, self._folder)
        shutil.copytree(self._folder, place, symlinks=True)

    def kill(self, at: int) -> None:
        """Kill before change number `at`, run again, compare."""
        self._fresh()
        killed = run_command(self._arguments, self._folder, at)
        again = run_command(self._arguments, self._folder)
        tally = self.tally
        tally.kills += killed.code == -signal.SIGKILL
        if killed.traceback or again.traceback:
            tally.tracebacks += 1
        if again.code != 0:
            tally.hands_needed += 1
        found = [] if again.code else differing(self._expected, contents(self._folder))
        tally.differences += bool(found)
        if found or again.code or again.traceback:
            tally.faults.append({"at": at, "files": found, "said": again.said[-900:]})

    def _fresh(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.copytree(self._base, self._folder, symlinks=True)


def cases(work: Path, lora: bool = False) -> Iterator[Case]:
    """Every stage of the recipe on what the stages before it have left, then an export."""
    extra = ["--set", "train.training.lora={rank=2}"] if lora else []
    run = str(work / "case" / "run")
    recipe = ["--recipe", str(RECIPE), "--run-dir", run, *extra]
    base = work / "base-0"
    base.mkdir(parents=True)
    stages = ["ingest", "sft", "judge", "sample", "label", "train", "evaluate", "report"]
    for number, stage in enumerate(stages, 1):
        case = Case(stage, [stage, *recipe], work, base)
        yield case
        base = work / f"base-{number}"
        case.keep(base)


def warm_commands(work: Path) -> list[list[str]]:
    """What is run to find out what has to be imported."""
    run = ["--recipe", str(RECIPE), "--run-dir", str(work / "warm" / "run")]
    return [["run", *run], ["run", *run, "--set", "train.training.lora={rank=2}"]]
