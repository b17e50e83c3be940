"""Kills commands before their n-th change of a file, runs them again, and compares the bytes.

The server has imported everything once, under the library that counts; each command runs in a fork
of it, or, the plain way, in a process of its own. Nothing is patched: the counting is done where C,
Rust and Python meet the file system.
"""

import ctypes
import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.fixtures.fork_server import load

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RECIPE = HERE / "faults.toml"
# What of a run is about the machine and the hour, not about its content.
_ABOUT_THE_MACHINE = ("tokens_per_second", "peak_memory_bytes")
_OF_A_SUMMARY = (
    *("provenance", "wall_seconds", "cpu_seconds", "peak_rss_bytes"),
    *("started_at", "finished_at", "resumed", "output_bytes"),
    *_ABOUT_THE_MACHINE,
)
_SECONDS = 300
STAGES = ("ingest", "sft", "judge", "sample", "label", "train", "evaluate", "report")
WITH_ADAPTERS = ("--set", "train.training.lora={rank=2}")


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
    trials: int = 0
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


def run_process(arguments: Sequence[str], folder: Path, at: int = 0) -> Ended:
    """Run the command line in a process of its own, killed before change `at` below `folder`.

    The plain way: nothing is shared with the server but the library.
    """
    return _ended([sys.executable, "-m", "pipeline", *arguments], folder, at)


def run_make(arguments: Sequence[str], folder: Path, at: int = 0) -> Ended:
    """Run a target of the Makefile likewise; any of its processes dies before its own `at`-th."""
    ended = _ended(["make", "--no-print-directory", *arguments], folder, at)
    return replace(ended, code=-signal.SIGKILL) if "Killed" in ended.said else ended


def _ended(command: Sequence[str], folder: Path, at: int) -> Ended:
    calls = folder.parent / "calls.txt"
    calls.unlink(missing_ok=True)
    environment = os.environ | {
        "PREFLINE_CACHE": str(folder / "cache"),
        "KILL_AT_FOLDER": str(folder),
        "KILL_AT": str(at),
        "KILL_AT_COUNT": str(calls),
    }
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, timeout=_SECONDS, check=False
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    counted = int(calls.read_text()) if calls.exists() else 0
    return Ended(done.returncode, said, counted)


def run_command(
    arguments: Sequence[str],
    folder: Path,
    at: int = 0,
    prepare: Callable[[ctypes.CDLL], None] | None = None,
    seconds: int = _SECONDS,
) -> Ended:
    """Run the command line in a fork, killed before change number `at` below `folder`.

    `prepare` is called in the fork, with the library that counts, when nothing is left to be done
    but the command.
    """
    log, calls = folder.parent / "said.txt", folder.parent / "calls.txt"
    calls.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _be_the_command(arguments, folder, at, log, calls, prepare)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.alarm(seconds)
    _, status = os.waitpid(child, 0)
    signal.alarm(0)
    counted = int(calls.read_text() or 0) if calls.exists() else 0  # also where files stay empty
    return Ended(os.waitstatus_to_exitcode(status), log.read_text(errors="replace"), counted)


def _be_the_command(
    arguments: Sequence[str],
    folder: Path,
    at: int,
    log: Path,
    calls: Path,
    prepare: Callable[[ctypes.CDLL], None] | None,
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
        if prepare is not None:
            prepare(library)
        try:
            run_cli()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else int(left.code is not None)
        with suppress(OSError):  # where little is allowed, also to us
            calls.write_text(str(library.kill_at_count()))
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def import_everything(folder: Path, commands: Iterable[Sequence[str]]) -> None:
    """Import what the commands will need: found out in forks, so that no thread is running here."""
    load()  # so that the fork need not
    listed = folder / "modules.json"
    if not listed.exists():
        _list_modules(listed, folder / "warm" / "cache", commands)
    for name in json.loads(listed.read_text()):
        if not name.startswith("__"):
            with suppress(BaseException):
                import_module(name)
    _prepare()


def _list_modules(listed: Path, cache: Path, commands: Iterable[Sequence[str]]) -> None:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.environ["PREFLINE_CACHE"] = str(cache)
        from pipeline.cli import run_cli

        for arguments in commands:
            sys.argv = ["prefline", *arguments]
            with suppress(SystemExit):
                run_cli()
        listed.write_text(json.dumps(list(sys.modules)))
    finally:
        os._exit(0)


def _prepare() -> None:
    """Do once what every command would do again: no thread is started and no file is written."""
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    from pipeline.recipe import load_recipe

    load_recipe(RECIPE)
    get_checkpoint_conversion_mapping("llama")
    gc.collect()
    gc.freeze()


def contents(folder: Path) -> dict[str, Any]:
    """All files of a run, as what must not depend on when and how often it was interrupted.

    Answers that were paid for lie in the order in which they came, damaged ones beside them.
    """
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if name.startswith("cache/") or "/.locks/" in name or "/judge-answers/" in name:
            continue
        found[name] = _content(path)
    return found


def _content(path: Path) -> Any:
    if path.name == "manifest.json":
        manifest = json.loads(path.read_text())
        manifest.pop("provenance")
        manifest.pop("sha256", None)
        manifest["outputs"] = sorted(manifest["outputs"])
        manifest["counts"].pop("page_bytes", None)
        return manifest
    if path.name == "summary.json":
        return _timeless(json.loads(path.read_text()))
    if path.name == "index.html" and (path.parent / "summary.json").exists():
        return _Page((path.parent / "summary.json").read_bytes(), path.read_bytes())
    if path.name == "metrics.parquet":
        table = pq.read_table(path)
        return table.drop_columns([c for c in _ABOUT_THE_MACHINE if c in table.column_names])
    if path.name == "metrics.jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return [{k: v for k, v in r.items() if k not in _ABOUT_THE_MACHINE} for r in rows]
    return path.read_bytes()


@dataclass(frozen=True)
class _Page:
    """A page, which has to be the same where it is made from the same summary, hours and all."""

    summary: bytes
    page: bytes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Page) and (
            self.summary != other.summary or self.page == other.page
        )

    __hash__ = None  # type: ignore[assignment]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in _OF_A_SUMMARY}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def differing(left: dict[str, Any], right: dict[str, Any]) -> list[str]:
    """The files in which two runs differ."""
    names = sorted(left.keys() | right.keys())
    return [name for name in names if name not in left or left.get(name) != right.get(name)]


Runner = Callable[[Sequence[str], Path, int], Ended]


class Case:
    """One command on one state of a run directory."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        work: Path,
        base: Path,
        runner: Runner = run_command,
    ) -> None:
        self.name, self.arguments = name, arguments
        self.folder, self.base, self._run = work / "case", base, runner
        self.after = work / f"after-{name}"
        counted = work / f"after-{name}.calls"
        if not counted.exists():  # else an earlier run has done it here
            self.fresh()
            whole = runner(arguments, self.folder, 0)
            if whole.code != 0:
                raise RuntimeError(f"{name}: fails undisturbed: {whole.said}")
            shutil.copytree(self.folder, self.after, symlinks=True)
            counted.write_text(str(whole.calls))
        self.expected = contents(self.after)
        self.tally = Tally(name, int(counted.read_text()))

    def kill(self, *at: int) -> None:
        """Kill before change number `at`, run again, compare; with several, kill each next run."""
        self.fresh()
        tally, killed = self.tally, 0
        tracebacks = False
        for number in at:
            ended = self._run(self.arguments, self.folder, number)
            tracebacks = tracebacks or ended.traceback
            if ended.code != -signal.SIGKILL:
                break
            killed += 1
        again = self._run(self.arguments, self.folder, 0)
        tracebacks = tracebacks or again.traceback
        found = differing(self.expected, contents(self.folder))
        # A command that only has to be told that its work is there needs no hand.
        stopped = again.code != 0 and bool(found)
        tally.trials += 1
        tally.kills += killed
        tally.tracebacks += tracebacks
        tally.hands_needed += stopped
        tally.differences += bool(found) and not stopped
        if found or tracebacks:
            tally.faults.append({"at": at, "files": found, "said": again.said[-900:]})

    def chain(self, length: int, draw: random.Random) -> None:
        """Kill a run, and the run that goes on from it, and so on, at places drawn by chance."""
        most = max(2, 3 * self.tally.calls // length)
        self.kill(*(draw.randint(1, most) for _ in range(length)))

    def fresh(self) -> None:
        """The state that the command begins from."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.base, self.folder, symlinks=True)


def cases(work: Path, lora: bool = False, plain: bool = False) -> Iterator[Case]:
    """Every stage of the recipe on what the stages before it have left, then further commands."""
    extra = WITH_ADAPTERS if lora else []
    run = str(work / "case" / "run")
    recipe = ["--recipe", str(RECIPE), "--run-dir", run, *extra]
    base = work / "base"
    base.mkdir(parents=True, exist_ok=True)
    runner = run_process if plain else run_command
    for stage in STAGES:
        case = Case(stage, [stage, *recipe], work, base, runner)
        yield case
        base = case.after
    given = work / "given"
    given.mkdir(exist_ok=True)
    for name, arguments in further_commands(work / "case", given, lora):
        yield Case(name, arguments, work, base, runner)
    yield Case("clean-run", ["clean-run", f"OUT={run}"], work, base, run_make)


def further_commands(case: Path, given: Path, lora: bool) -> Iterator[tuple[str, Sequence[str]]]:
    """Commands that write beside a finished run, each with the files it is given."""
    run = str(case / "run")
    yield "export", ["export", "--to", "trl", "--out", str(case / "exported"), "--run-dir", run]
    yield (
        "export-all",
        ["export", "--to", "hub-layout", "--out", str(case / "exported"), "--run-dir", run],
    )
    yield "push", ["push", run, "owner/name", "--to", str(case / "pushed")]
    if lora:
        yield "merge", ["merge", run, "--out", str(case / "merged")]
    outputs = [given / f"{name}.jsonl" for name in ("one", "two")]
    for length, path in enumerate(outputs, 1):
        rows = [{"prompt": f"Say {n}", "output": "so " * (n % 3 * length)} for n in range(6)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    yield (
        "compare",
        ["compare", *map(str, outputs), "--judge", "length", "--run-dir", str(case / "compared")],
    )
    pairs = given / "pairs.jsonl"
    rows = [{"prompt": f"Say {n}", "chosen": "so so", "rejected": "s" * n} for n in range(1, 6)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = str(case / "judged")
    yield "judge-pairs", ["judge-pairs", str(pairs), "--judge", "length", "--run-dir", judged]
    studio = str(case / "studio.json")
    yield "audit", ["audit", run, "--to", "label-studio", "--out", studio]


def warm_commands(
    work: Path, wanted: Collection[str] = (), lora: bool = True
) -> Iterator[Sequence[str]]:
    """What is run to find out what has to be imported; `wanted` are the commands that come, or all.

    `lora` runs the stages with adapters too.
    """
    run = ["run", "--recipe", str(RECIPE), "--run-dir", str(work / "warm" / "run")]
    (work / "warm-given").mkdir(exist_ok=True)
    yield run
    for name, command in further_commands(work / "warm", work / "warm-given", lora=False):
        if not wanted or name in wanted:
            yield command
    if lora or not wanted:
        yield [*run, *WITH_ADAPTERS]
