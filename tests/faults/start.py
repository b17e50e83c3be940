"""Starts a harness again as a process that has the library that counts in front of all others."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.harness import build_library
from tests.fixtures.in_memory import in_memory


@contextmanager
def work_folder(kept: str | None) -> Iterator[Path]:
    """Where a harness works: a folder that is kept, or one that is gone at the end."""
    if kept := kept or os.environ.get("PREFLINE_FAULTS"):
        Path(kept).mkdir(parents=True, exist_ok=True)
        yield Path(kept)
    else:
        with tempfile.TemporaryDirectory(prefix="prefline-faults-", dir=in_memory()) as folder:
            yield Path(folder)


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
