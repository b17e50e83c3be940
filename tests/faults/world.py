"""Runs every command in a world where something is wrong, and again when that is mended.

A full disk, few descriptors, little memory, odd outputs, files that are something else, models that
are none: the command must end in one line and exit code 2, or do its work all the same; when the
trouble is gone, the same command must come to the bytes of an undisturbed run.
`python -m tests.faults.world [--each N] [--commands a,b] [--kinds "full disk,outputs"]`. With
`--save` the counts of each command and kind go into the record as they come; those of others stay.
"""

import argparse
import errno
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.harness import (
    RECIPE,
    STAGES,
    Case,
    Ended,
    cases,
    contents,
    differing,
    further_commands,
    import_everything,
    run_command,
    warm_commands,
)
from tests.faults.start import start_under_the_library, work_folder
from tests.faults.troubles import (
    ADAPTERS,
    MODELS,
    WAYS,
    BadModel,
    FailingCall,
    Limit,
    Locked,
    OddFile,
    SmallDisk,
    Streams,
    Trouble,
    files_below,
)
from tests.fixtures.chaos_server import chaos_server
from tests.fixtures.tiny_models import tiny_adapter, tiny_llama

RESULTS = Path(__file__).resolve().parent / "world.json"
_SECONDS = 300
_OF_THE_MACHINE = ("little memory", "small disk")
_READING = ("status", "validate", "show", "stats", "win-rate", "runs")
_ERRORS = (errno.EIO, errno.EMFILE, errno.EACCES, errno.EROFS, errno.EDQUOT)
# What is no command's business: locks, logs for people, what says how far a stage is.
_NOT_READ = (".locks", "run.log", ".progress", "cache/")


@dataclass
class Tally:
    """What came of one kind of trouble under one command."""

    command: str
    kind: str
    trials: int = 0
    one_line: int = 0
    no_difference: int = 0
    more_lines: int = 0
    tracebacks: int = 0
    other_ends: int = 0
    hung: int = 0
    not_resumed: int = 0
    faults: list[dict[str, Any]] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not self.faults

    def to_json(self) -> dict[str, Any]:
        """For the record of the counts."""
        return {k: v for k, v in vars(self).items() if isinstance(v, int)}


class World:
    """All commands, each on what the ones before it have left."""

    def __init__(self, work: Path, draw: random.Random, each: int) -> None:
        self._work, self._draw, self._each = work, draw, each
        self._given, self._whole = work / "given", work / "given-whole"
        self.tallies: dict[tuple[str, str], Tally] = {}

    @property
    def sound(self) -> bool:
        return all(tally.sound for tally in self.tallies.values())

    @property
    def trials(self) -> int:
        return sum(tally.trials for tally in self.tallies.values())

    def sample(self, trials: int) -> None:
        """So many of the troubles of the stages, and of commands that only read.

        None of which other machines have other ones.
        """
        found = [
            (case, trouble)
            for case in self.commands("", {*STAGES, *_READING})
            for trouble in self._troubles(case)
            if trouble.kind not in _OF_THE_MACHINE
        ]
        for case, trouble in self._draw.sample(found, trials):
            self._trial(case, trouble)

    def commands(self, url: str, wanted: set[str]) -> Iterator[Case]:
        """Stages, then commands on the finished run, then those that are given files and models."""
        make_given(self._given)
        list(further_commands(self._work / "case", self._given, lora=False))  # writes their files
        for served in self._work.glob("*judge-served*"):  # at an address of before
            shutil.rmtree(served) if served.is_dir() else served.unlink()
        shutil.rmtree(self._whole, ignore_errors=True)
        shutil.copytree(self._given, self._whole)
        stages: dict[str, Case] = {}
        for case in cases(self._work):
            if case.name == "clean-run":
                break
            stages[case.name] = case
            if not wanted or case.name in wanted:
                yield case
        done = stages["report"].after
        found = {"train-model": stages["label"].after, "sample-model": stages["judge"].after}
        for name, arguments in further(self._work / "case", self._given, url):
            if name == "judge-served-again" and (not wanted or name in wanted):
                found[name] = self._answered(Case("judge-served", arguments, self._work, done))
            if not wanted or name in wanted:
                yield Case(name, arguments, self._work, found.get(name, done))

    def _answered(self, served: Case) -> Path:
        """The state in which a judge has answered, and what it came to is gone."""
        place = self._work / "before-judge-served-again"
        shutil.copytree(served.after, place, symlinks=True)
        for stage in ("judge", "label", "evaluate"):
            shutil.rmtree(place / "served" / stage)
        return place

    def attack(self, case: Case, kinds: set[str]) -> None:
        """Try the command in every kind of trouble, each as often as was asked for."""
        for trouble in self._troubles(case):
            if not kinds or trouble.kind in kinds:
                self._trial(case, trouble)

    def _troubles(self, case: Case) -> Iterator[Trouble]:
        draw, calls = self._draw, case.tally.calls
        words = [Path(word.partition("=")[2] or word) for word in case.arguments]
        for _ in range(self._each):
            if calls:
                yield FailingCall(case.folder, draw.randint(1, calls), errno.ENOSPC)
                yield FailingCall(case.folder, draw.randint(1, calls), draw.choice(_ERRORS))
                if can_mount():
                    yield SmallDisk(draw.randrange(_grown(case) + 1))
            yield Limit("NOFILE", draw.randrange(4, 24))
            yield Limit("FSIZE", draw.choice((0, 100, 3000, 20_000)))
            yield Limit("AS", draw.randrange(1 << 22, 1 << draw.randrange(23, 29)))
            yield Streams(draw.choice(("no stdout", "no stderr", "neither", "full", "ascii")))
            if not calls:
                yield Streams("nobody reads")
            yield OddFile(draw.choice(self._read(case)), draw.choice(list(WAYS)))
            if calls:
                yield OddFile(draw.choice(self._made(case)), draw.choice(list(WAYS)))
            given = [word for word in words if word.is_file() and self._given in word.parents]
            if given:
                yield OddFile(draw.choice(given), draw.choice(list(WAYS)))
            for word in words:
                if word == self._given / "model":
                    yield OddFile(draw.choice(list(files_below(word))), draw.choice(list(WAYS)))
        for word in words:
            bad = {self._given / "adapter": ADAPTERS, self._given / "model": MODELS}.get(word, {})
            yield from (BadModel(word, way) for way in bad)
        for answers in case.base.rglob("answers.sqlite"):
            place = case.folder / answers.relative_to(case.base)
            yield from (OddFile(place, way) for way in WAYS)
            yield from (Locked(place, whole) for whole in (False, True))

    def _read(self, case: Case) -> list[Path]:
        found = [path.relative_to(case.base) for path in files_below(case.base)]
        read = [p for p in found if not any(part in str(p) for part in _NOT_READ)]
        return [case.folder / path for path in read] or [case.folder / "run" / "run.json"]

    def _made(self, case: Case) -> list[Path]:
        before = {path.relative_to(case.base) for path in case.base.rglob("*")}
        after = [path.relative_to(case.after) for path in case.after.rglob("*")]
        made = [p for p in after if p not in before and p.parent in {*before, Path()}]
        return [case.folder / path for path in made] or [case.folder / "run"]

    def _trial(self, case: Case, trouble: Trouble) -> None:
        case.fresh()
        shutil.rmtree(self._given)
        shutil.copytree(self._whole, self._given)
        trouble.change(case.folder)
        try:
            ended = run_command(
                case.arguments, case.folder, prepare=trouble.prepare, seconds=_SECONDS
            )
            trouble.mend()
            again = run_command(case.arguments, case.folder)
            left = differing(case.expected, contents(case.folder))
        finally:
            if isinstance(trouble, SmallDisk):
                trouble.leave()
        if again.code == 2 and not left:  # its work is there, and it says so
            again.code = 0
        self._count(case, trouble, ended, again, left)

    def _count(
        self, case: Case, trouble: Trouble, ended: Ended, again: Ended, left: Sequence[str]
    ) -> None:
        key = (case.name, trouble.kind)
        tally = self.tallies.setdefault(key, Tally(*key))
        outcome = _outcome(ended, silent=trouble.kind in ("outputs", "small files"))
        tally.trials += 1
        setattr(tally, outcome, getattr(tally, outcome) + 1)
        resumed = again.code == 0 and not left and not again.traceback
        tally.not_resumed += not resumed
        if isinstance(trouble, BadModel) and outcome == "no_difference":
            say(
                f"{case.name} does its work all the same: {trouble.way}"
            )  # to be judged by a person
        if outcome not in ("one_line", "no_difference") or not resumed:
            told = {"command": case.name, "trouble": repr(trouble), "outcome": outcome}
            said = {"code": ended.code, "said": ended.said[-1500:]}
            then = {} if resumed else {"then": again.code, "left": left, "told": again.said[-900:]}
            tally.faults.append({**told, **said, **then})
            say(json.dumps(tally.faults[-1])[:3500])


def _outcome(ended: Ended, silent: bool) -> str:
    """`silent` allows that nothing is said: nobody could hear it."""
    if ended.traceback:
        return "tracebacks"
    if ended.code == -9:
        return "hung"
    if ended.code == 0:
        return "no_difference"
    if ended.code != 2:
        return "other_ends"
    lines = [line for line in ended.said.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("error: ")]
    listed = lines[lines.index(told[0]) + 1 :] if told else []
    one = len(told) == 1 and all(line.startswith("  ") for line in listed)  # one a problem
    if not told and any(line.startswith("wrong: ") for line in lines):
        return "one_line"  # doctor lists what it has found
    return "one_line" if one or (silent and not told) else "more_lines"


def make_given(folder: Path) -> None:
    """Models and files as people have them."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "adapter").exists():
        model = tiny_llama(folder / "model", context=1024, hidden_size=32, layers=1)
        tiny_adapter(folder / "adapter", model, rank=2)
    shutil.copyfile(RECIPE, folder / "recipe.toml")
    turns = [{"role": "user", "content": "Say it"}, {"role": "assistant", "content": "it"}]
    rows = "".join(json.dumps({"messages": turns}) + "\n" for _ in range(3))
    (folder / "turns.jsonl").write_text(rows)


def further(case: Path, given: Path, url: str) -> Iterator[tuple[str, Sequence[str]]]:
    """Commands that read a finished run, and commands that are given models."""
    run, recipe = str(case / "run"), ["--recipe", str(given / "recipe.toml")]
    yield "run", ["run", *recipe, "--run-dir", run]
    yield "status", ["status", *recipe, "--run-dir", run]
    yield "validate", ["validate", *recipe]
    yield "runs", ["runs", str(case)]
    yield "show", ["show", "comparisons", "--run-dir", run]
    yield "stats", ["stats", "--run-dir", run]
    yield "trace", ["trace", "", "--run-dir", run]
    yield "win-rate", ["win-rate", str(case / "run" / "evaluate" / "verdicts.parquet")]
    table = str(case / "run" / "ingest" / "comparisons.parquet")
    yield "judge-card", ["judge-card", table, "--judge", "length"]
    yield "doctor", ["doctor", str(given / "model")]
    yield "render", ["render", str(given / "model"), str(given / "turns.jsonl")]
    yield "merge", ["merge", str(given / "adapter"), "--out", str(case / "merged")]
    pairs, judge = str(given / "pairs.jsonl"), f"openai:m@{url}"
    served = ["judge-pairs", pairs, "--judge", judge, "--run-dir", str(case / "served")]
    yield "judge-served", served
    yield "judge-served-again", served
    stage = ["--recipe", str(RECIPE), "--run-dir", run, "--set"]
    yield "train-model", ["train", *stage, f"train.model.path={given / 'model'}"]
    yield "sample-model", ["sample", *stage, f"sample.model.path={given / 'model'}"]


def can_mount() -> bool:
    """Whether this process may put a disk in place."""
    return os.geteuid() == 0 and shutil.which("mount") is not None and _mounts()


def _mounts() -> bool:
    if "mounts" not in _known:
        with tempfile.TemporaryDirectory() as folder:
            done = os.system(f"mount -t tmpfs tmpfs {folder} 2>/dev/null") == 0
            if done:
                os.system(f"umount {folder}")
        _known["mounts"] = done
    return _known["mounts"]


_known: dict[str, bool] = {}


def _grown(case: Case) -> int:
    def size(folder: Path) -> int:
        return sum(path.stat().st_size for path in files_below(folder))

    return max(0, size(case.after) - size(case.base))


def say(line: str) -> None:
    """Print a line now."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the trials, print the counts; 1 where a fault was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=3, help="trials of each kind and command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", default="", help="only these, by comma")
    parser.add_argument("--kinds", default="", help="only these kinds of trouble, by comma")
    parser.add_argument("--work", help="a folder that keeps what was prepared for the next time")
    parser.add_argument("--save", action="store_true", help="write tests/faults/world.json")
    options = parser.parse_args()
    with work_folder(options.work) as folder:
        work = start_under_the_library(folder, "tests.faults.world")
        url = serve_aside()
        import_everything(work, warm_commands(work))
        world = World(work, random.Random(options.seed), options.each)
        kinds = set(filter(None, options.kinds.split(",")))
        for case in world.commands(url, set(filter(None, options.commands.split(",")))):
            world.attack(case, kinds)
            say(f"{case.name}: {world.trials} trials so far")
            if options.save:
                _save(world.tallies.values())
    for tally in world.tallies.values():
        say(json.dumps({"command": tally.command, "kind": tally.kind} | tally.to_json()))
    return int(not world.sound)


def _save(tallies: Iterable[Tally]) -> None:
    """Put these counts on record."""
    known = json.loads(RESULTS.read_text())["commands"] if RESULTS.exists() else {}
    for tally in tallies:
        known.setdefault(tally.command, {})[tally.kind] = tally.to_json()
    kinds: dict[str, Counter[str]] = {}
    for counts in known.values():
        for kind, counted in counts.items():
            kinds.setdefault(kind, Counter()).update(counted)
    total = sum(kinds.values(), Counter[str]())
    record = {"total": {k: total[k] for k in Tally("", "").to_json()}, "kinds": kinds}
    RESULTS.write_text(json.dumps(record | {"commands": known}, indent=1, sort_keys=True) + "\n")


def serve_aside() -> str:
    """The address of a judge's server in a process that ends with this one."""
    reads, writes = os.pipe()
    if os.fork() == 0:
        ppid = os.getppid()
        with chaos_server() as server:
            os.write(writes, server.url.encode())
            os.close(writes)
            while os.getppid() == ppid:
                time.sleep(1)
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as said:
        return said.read()


if __name__ == "__main__":
    raise SystemExit(main())
