"""Ingest's fast way against the plain one on many made-up rows: run by hand.

    python tests/benchmarks/fuzz_ingest.py --rows 100000

Every format gets that many rows, in files of 500, each file with its own seed. The first
difference stops the run and names the seed.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fixtures.equals_plain import COLUMNS, LINES, check_columns, check_lines

FILE_ROWS = 500


def main() -> None:
    """Check every format, and print rows and rows kept of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1_000_000)
    options = parser.parse_args()
    checks = [(f"lines/{case}", check_lines, case) for case in LINES]
    checks += [(f"columns/{case}", check_columns, case) for case in COLUMNS]
    for name, check, case in checks:
        rows = kept = 0
        while rows < options.rows:
            seed = options.seed + rows
            with tempfile.TemporaryDirectory() as folder:
                try:
                    kept += check(Path(folder) / "case", case, seed, FILE_ROWS)
                except BaseException:
                    sys.stderr.write(f"{name}: seed {seed}, {FILE_ROWS} rows\n")
                    raise
            rows += FILE_ROWS
        sys.stdout.write(json.dumps({"format": name, "rows": rows, "kept": kept}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
