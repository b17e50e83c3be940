"""What does a preference model learn from real HH rows on a laptop? Its card, with CPU-seconds.

Runs ingest, sft and judge of hh_judge.toml and writes results/hh-judge.json beside this file.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from schemas.manifest import Manifest, read_manifest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DATA = Path(os.environ.get("PREFLINE_REAL_DATA", ROOT.parent / "shared" / "data"))
ROWS = DATA / "hh-rlhf" / "harmless-base-test.jsonl.gz"
RESULT = HERE / "results" / "hh-judge.json"
KEPT = (
    "n", "n_scored", "accuracy", "kappa", "baselines", "lift_over_longest", "lift_over_first",
    "position_consistency", "flip_rate", "p_first", "position_gap", "confusion", "ece", "brier",
)  # fmt: skip


def measured(run: Path) -> dict[str, Any]:
    """The card's key lines, what "the shorter one wins" would get, and what it cost."""
    card = json.loads((run / "judge" / "card.json").read_bytes())
    longest = card["baselines"]["longest"]
    shortest = {name: 1 - longest[name] for name in ("value", "ci_low", "ci_high")}
    shortest["ci_low"], shortest["ci_high"] = shortest["ci_high"], shortest["ci_low"]
    manifests = {name: _manifest(run / name) for name in ("sft", "judge")}
    return {
        "card": {name: card[name] for name in KEPT},
        "shortest": shortest | {"n": longest["n"]},
        "train_comparisons": manifests["judge"].counts["train_comparisons"],
        "cpu_seconds": {name: m.provenance.cpu_seconds for name, m in manifests.items()},
    }


def _manifest(folder: Path) -> Manifest:
    found = read_manifest(folder)
    assert found is not None
    return found


def main() -> int:
    """Run, write, and say the two numbers that matter."""
    if not ROWS.exists():
        sys.stderr.write(f"error: no real data at {ROWS}; set PREFLINE_REAL_DATA\n")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        where = ["--set", f"ingest.datasets.0.path={ROWS}", "--run-dir", str(run)]
        command = [sys.executable, "-m", "pipeline", "run", "--recipe", str(HERE / "hh_judge.toml")]
        subprocess.run([*command, *where, "--until", "judge"], cwd=ROOT, check=True)
        result = measured(run)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    accuracy, first = result["card"]["accuracy"]["value"], result["card"]["p_first"]["value"]
    sys.stdout.write(f"accuracy {accuracy:.3f}, verdicts for the first {first:.3f}: {RESULT}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
