"""All kills, or a sample of them: `python -m tests.faults.run_all [--every N] [--stages a,b]`.

Starts itself again under the library that counts.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from tests.faults.harness import Tally, build_library, cases, import_everything, warm_commands

RESULTS = Path(__file__).resolve().parent / "counts.json"


def main() -> int:
    """Run the trials, print the counts; 1 where a fault was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="kill before every N-th change only")
    parser.add_argument("--first", type=int, default=1, help="the first change to kill before")
    parser.add_argument("--stages", default="", help="only these stages, by comma")
    parser.add_argument("--lora", action="store_true", help="train low-rank adapters")
    parser.add_argument("--save", default="", help="add the counts to tests/faults/counts.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="prefline-faults-") as folder:
        work = start_under_the_library(Path(folder), "tests.faults.run_all")
        import_everything(work, warm_commands(work))
        tallies = []
        for case in cases(work, options.lora):
            if options.stages and case.name not in options.stages.split(","):
                continue
            for at in range(options.first, case.tally.calls + 1, options.every):
                case.kill(at)
            tallies.append(case.tally)
            if options.save:
                _save(options.save, case.tally)
            _say(json.dumps(case.tally.to_json()))
            for fault in case.tally.faults[:20]:
                _say(f"  {json.dumps(fault)[:1500]}")
    _say(json.dumps({"kills": sum(t.kills for t in tallies)}))
    return int(not all(tally.sound for tally in tallies))


def _save(name: str, tally: Tally) -> None:
    """Add a command's counts to the record, in place of those of an earlier run of that name."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known.setdefault(name, {})[tally.name] = tally.to_json()
    RESULTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def start_under_the_library(folder: Path, module: str) -> Path:
    """Start the module again in a process that has the library in front of all others, and end with
    it; in that process, the folder to work in.
    """
    if "PREFLINE_FAULTS" in os.environ:
        return Path(os.environ["PREFLINE_FAULTS"])
    library, work = build_library(folder), folder
    environment = os.environ | {
        "LD_PRELOAD": str(library),
        "PREFLINE_FAULTS": str(work),
        "OMP_NUM_THREADS": "1",
        "POLARS_MAX_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONHASHSEED": "0",
    }
    code = os.spawnve(
        os.P_WAIT,
        sys.executable,
        [sys.executable, "-m", module, *sys.argv[1:]],
        environment,
    )
    raise SystemExit(code)


if __name__ == "__main__":
    raise SystemExit(main())
