"""All kills, or a sample of them: `python -m tests.faults.run_all [--every N] [--stages a,b]`.

Starts itself again under the library that counts.
"""

import argparse
import json
import random
import sys
from pathlib import Path

from tests.faults.harness import Tally, cases, import_everything, warm_commands
from tests.faults.start import start_under_the_library, work_folder
from tests.faults.world import World

RESULTS = Path(__file__).resolve().parent / "counts.json"
_COUNTED = ("trials", "kills", "differences", "tracebacks", "hands_needed")


def main() -> int:
    """Run the trials, print the counts; 1 where a fault was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="kill before every N-th change only")
    parser.add_argument("--first", type=int, default=1, help="the first change to kill before")
    parser.add_argument("--chains", type=int, default=0, help="then kill again and again, so often")
    parser.add_argument("--length", type=int, default=10, help="the kills of a chain")
    parser.add_argument("--seed", type=int, default=0, help="of the places in chains")
    parser.add_argument("--stages", default="", help="only these stages, by comma")
    parser.add_argument("--lora", action="store_true", help="train low-rank adapters")
    parser.add_argument("--troubles", type=int, default=0, help="then so many troubles, of all")
    parser.add_argument("--work", help="a folder that keeps what was prepared for the next time")
    parser.add_argument("--plain", action="store_true", help="every command in its own process")
    parser.add_argument("--save", default="", help="add the counts to tests/faults/counts.json")
    options = parser.parse_args()
    with work_folder(options.work) as folder:
        work = start_under_the_library(folder, "tests.faults.run_all")
        wanted = set(filter(None, options.stages.split(",")))
        if not options.plain:
            import_everything(work, warm_commands(work, wanted, options.lora))
        tallies = []
        for case in cases(work, options.lora, options.plain):
            if wanted and case.name not in wanted:
                continue
            for at in range(options.first, case.tally.calls + 1, options.every):
                case.kill(at)
            draw = random.Random(f"{options.seed} {case.name}")
            for _ in range(options.chains):
                case.chain(options.length, draw)
            tallies.append(case.tally)
            if options.save:
                _save(options.save, case.tally)
            _say(json.dumps(case.tally.to_json()))
            for fault in case.tally.faults[:20]:
                _say(f"  {json.dumps(fault)[:1500]}")
            if wanted == {tally.name for tally in tallies}:
                break
        world = World(work, random.Random(options.seed), each=1)
        if options.troubles:
            world.sample(options.troubles)
    told = {"kills": sum(t.kills for t in tallies), "troubles": world.trials}
    _say(json.dumps(told))
    return int(not (world.sound and all(tally.sound for tally in tallies)))


def _save(name: str, tally: Tally) -> None:
    """Add a command's counts to the record."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    earlier = known.setdefault(name, {}).get(tally.name, {})
    counted = {k: v + earlier.get(k, 0) for k, v in tally.to_json().items() if k in _COUNTED}
    known[name][tally.name] = tally.to_json() | counted
    RESULTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
