"""Damages files of a run, its caches and its answers, runs the command again, and looks what came.

Every damage must be noticed with one line, or make no difference to what the run comes to. What
only another evaluation would use is judged by that evaluation.
`python -m tests.faults.corruption [--trials N] [--places a,b]` does a sample or all.
"""

import argparse
import json
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.judges.openai.answer_cache import FILE_NAME, Answers, Tokens
from evals.judges.openai.replies import Reply
from schemas.errors import PipelineError
from schemas.stage import RESUME_FOLDER
from tests.faults.harness import (
    RECIPE,
    Ended,
    contents,
    differing,
    import_everything,
    run_command,
    warm_commands,
)
from tests.faults.start import start_under_the_library, work_folder

RESULTS = Path(__file__).resolve().parent / "corruption.json"
# Nobody reads these: logs for people, locks, and what says how far a stage is.
_NOT_READ = (".locks", "run.log", ".progress")
# What a run says that goes on without what it cannot make again.
_LOST = "is damaged, and lost"
_STRETCH = 64
# An evaluation that asks no model and no judge anything new: it uses all that the first has kept.
_ANOTHER = ("--set", "evaluate.headline=discrete")


def flip(data: bytes, draw: random.Random) -> bytes:
    """One bit is another."""
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]


def cut(data: bytes, draw: random.Random) -> bytes:
    """The end is missing."""
    return data[: draw.randrange(len(data))]


def swap(data: bytes, draw: random.Random) -> bytes:
    """Two stretches stand in each other's place."""
    size = max(1, min(_STRETCH, len(data) // 2))
    one = draw.randrange(max(1, len(data) - 2 * size + 1))
    other = one + size + draw.randrange(max(1, len(data) - one - 2 * size + 1))
    parts = (data[other : other + size], data[one + size : other], data[one : one + size])
    return data[:one] + b"".join(parts) + data[other + size :]


DAMAGES: Sequence[Callable[[bytes, random.Random], bytes]] = (flip, cut, swap)


@dataclass
class Tally:
    """What came of all damages in one place."""

    place: str
    trials: int = 0
    noticed: int = 0
    no_difference: int = 0
    silent: int = 0
    tracebacks: int = 0
    faults: list[dict[str, Any]] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not (self.silent or self.tracebacks)

    def add(self, outcome: str, **told: Any) -> None:
        """Count a trial; one that went wrong is kept."""
        self.trials += 1
        setattr(self, outcome, getattr(self, outcome) + 1)
        if outcome in ("silent", "tracebacks"):
            self.faults.append({"outcome": outcome, **told})
            _say(f"  {json.dumps(self.faults[-1])[:900]}")

    def to_json(self) -> dict[str, Any]:
        """For the record of the counts."""
        return {k: v for k, v in vars(self).items() if k != "faults"}


def damage(path: Path, draw: random.Random) -> str:
    """Damage a file in one of the ways; returns which."""
    data = path.read_bytes()
    way = draw.choice(DAMAGES)
    damaged = way(data, draw)
    if damaged == data:
        way, damaged = flip, flip(data, draw)
    path.write_bytes(damaged)
    return way.__name__


class RunTrials:
    """Damage to files of a run directory, and the command that makes the run once more."""

    def __init__(self, work: Path, seed: int) -> None:
        self._case, self._draw = work / "case", random.Random(seed)
        self._work = work
        run = str(self._case / "run")
        self._command = ["run", "--recipe", str(RECIPE), "--run-dir", run]
        self._whole = work / "whole"
        self._fresh(None)
        self._calls = self._made(run_command(self._command, self._case)).calls
        shutil.copytree(self._case, self._whole, symlinks=True)
        self._expected = contents(self._whole)
        self._made(run_command([*self._command, *_ANOTHER], self._case))
        self._of_another = contents(self._case)
        if _kept(self._expected) != _kept(self._of_another) or not _kept(self._expected):
            raise RuntimeError("another evaluation does not use what the first has kept")

    def published(self, trials: int) -> Tally:
        """What stages have published."""
        return self._damaged("published outputs", trials, [self._whole], _is_published)

    def partial(self, trials: int, kills: int = 8) -> Tally:
        """What a killed run goes on from."""
        states = []
        for number in range(kills):
            self._fresh(None)
            run_command(self._command, self._case, (number + 1) * self._calls // (kills + 1))
            place = self._work / f"killed-{number}"
            shutil.copytree(self._case, place, symlinks=True)
            states.append(place)
        return self._damaged("unfinished work", trials, states, _is_partial)

    def caches(self, trials: int) -> Tally:
        """What runs share, where a stage is made once more."""
        place = self._work / "cached"
        shutil.copytree(self._whole, place, symlinks=True)
        for stage in ("train", "evaluate", "report"):
            shutil.rmtree(place / "run" / stage)
        return self._damaged("caches", trials, [place], _is_cached)

    def _damaged(
        self, name: str, trials: int, states: Sequence[Path], chosen: Callable[[Path], bool]
    ) -> Tally:
        tally = Tally(name)
        for state, relative in _drawn(states, chosen, trials, self._draw):
            self._fresh(state)
            way = damage(self._case / relative, self._draw)
            again, found = self._run_again()
            told = {"file": str(relative), "way": way, "files": found, "said": again.said[-1500:]}
            tally.add(_outcome(again, found), **told)
        return tally

    def _run_again(self) -> tuple[Ended, list[str]]:
        """How the command ended, and the files in which the run differs then.

        Where they are only such as evaluate keeps for another evaluation, that one is made too.
        """
        again = run_command(self._command, self._case)
        found = [] if again.code else differing(self._expected, contents(self._case))
        if found and all(_is_kept(name) for name in found):
            again = run_command([*self._command, *_ANOTHER], self._case)
            found = [] if again.code else differing(self._of_another, contents(self._case))
        return again, found

    def _fresh(self, state: Path | None) -> None:
        shutil.rmtree(self._case, ignore_errors=True)
        if state is None:
            self._case.mkdir(parents=True)
        else:
            shutil.copytree(state, self._case, symlinks=True)

    @staticmethod
    def _made(ended: Ended) -> Ended:
        if ended.code != 0:
            raise RuntimeError(f"fails undisturbed: {ended.said}")
        return ended


def _outcome(ended: Ended, found: Sequence[str]) -> str:
    if ended.traceback or ended.code not in (0, 2):
        return "tracebacks"
    if ended.code == 2 or (found and _LOST in ended.said):
        return "noticed"
    return "silent" if found else "no_difference"


def _drawn(
    states: Sequence[Path], chosen: Callable[[Path], bool], trials: int, draw: random.Random
) -> Iterator[tuple[Path, Path]]:
    """Files of the states, each kind of name as often as any other."""
    named: dict[str, list[tuple[Path, Path]]] = {}
    for state in states:
        for path in sorted(p for p in state.rglob("*") if p.is_file() and p.stat().st_size):
            relative = path.relative_to(state)
            if chosen(relative) and not any(part in str(relative) for part in _NOT_READ):
                named.setdefault(relative.name, []).append((state, relative))
    names = sorted(named)
    for number in range(trials if names else 0):
        yield draw.choice(named[names[number % len(names)]])


def _is_kept(name: str) -> bool:
    return RESUME_FOLDER in Path(name).parts


def _kept(files: dict[str, Any]) -> dict[str, Any]:
    return {name: content for name, content in files.items() if _is_kept(name)}


def _is_published(path: Path) -> bool:
    return path.parts[0] == "run" and not _is_partial(path)


def _is_partial(path: Path) -> bool:
    return any(part.endswith(".partial") for part in path.parts)


def _is_cached(path: Path) -> bool:
    return path.parts[0] == "cache"


def answers(trials: int, seed: int, folder: Path) -> Tally:
    """The database of answers that were paid for: an answer is as it was, or is asked again."""
    tally, draw = Tally("answers.sqlite"), random.Random(seed)
    kept = {f"{n:064x}": Reply(f"Verdict: {'AB'[n % 2]} {'x' * n}") for n in range(60)}
    whole = folder / "whole"
    database = Answers(whole)
    database.put("judge", [(key, reply, Tokens(10, 2)) for key, reply in kept.items()])
    database.close()
    for number in range(trials):
        place = folder / str(number)
        shutil.copytree(whole, place)
        path = draw.choice(sorted(p for p in place.iterdir() if p.stat().st_size))
        way = damage(path if draw.random() < 0.1 else place / FILE_NAME, draw)
        outcome, said = _answers_read(place, kept)
        tally.add(outcome, way=way, said=said)
        shutil.rmtree(place)
    return tally


def _answers_read(place: Path, kept: dict[str, Reply]) -> tuple[str, str]:
    try:
        database = Answers(place)
        try:
            found = {key: database.get(key) for key in kept}
        finally:
            database.close()
    except PipelineError as error:
        return ("tracebacks" if "\n" in str(error) else "noticed"), str(error)
    except Exception as error:
        return "tracebacks", repr(error)
    wrong = [key for key, reply in found.items() if reply is not None and reply != kept[key]]
    if wrong:
        return "silent", f"{found[wrong[0]]}"
    lost = database.damaged is not None or None in found.values()
    return ("noticed" if lost else "no_difference"), ""


def main() -> int:
    """Run the trials, print the counts; 1 where a fault was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=520, help="all of them, over all places")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--places", default="published,partial,caches,answers")
    parser.add_argument("--save", action="store_true", help="write tests/faults/corruption.json")
    options = parser.parse_args()
    places = options.places.split(",")
    each = -(-options.trials // len(places))
    tallies = []
    with work_folder(None) as folder:
        work = start_under_the_library(folder, "tests.faults.corruption")
        if "answers" in places:
            tallies.append(answers(each, options.seed, work / "answers"))
        if set(places) - {"answers"}:
            import_everything(work, warm_commands(work))
            runs = RunTrials(work, options.seed)
            tallies += [getattr(runs, place)(each) for place in places if place != "answers"]
    for tally in tallies:
        _say(json.dumps(tally.to_json()))
    if options.save:
        _save(tallies)
    return int(not all(tally.sound for tally in tallies))


def _save(tallies: Sequence[Tally]) -> None:
    """Put the counts of these places on record; those of other places stay."""
    known = json.loads(RESULTS.read_text())["places"] if RESULTS.exists() else []
    places = {one["place"]: one for one in [*known, *(tally.to_json() for tally in tallies)]}
    total = Counter[str]()
    for counted in places.values():
        total.update({k: v for k, v in counted.items() if k != "place"})
    record = {"total": dict(total), "places": list(places.values())}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
