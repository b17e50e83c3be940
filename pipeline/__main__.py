"""Entry point: `python -m pipeline`, and the console script `prefline`."""

import gc
import importlib.util
import os
import sys
from pathlib import Path

_FEW_CORES = 8


def main() -> None:
    """Refuse to start on somebody else's packages, then run the command line."""
    # Read when torch is loaded; its notes on memory binding are nobody's business here.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # Also read then. Threads that wait for long by spinning take the cores of those that have work:
    # on two busy cores, training comes to half the steps; on two idle ones, it costs up to a tenth.
    # Where there are many threads, waking them costs more.
    if (os.cpu_count() or 1) <= _FEW_CORES and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    root = Path(__file__).resolve().parent.parent
    for name in ("schemas", "evals", "stages"):
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve() if spec and spec.origin else None
        if found is None or root not in found.parents:
            sys.stderr.write(
                f"error: package `{name}` is {found}, not {root / name}: "
                f"uninstall the other one, or run `python -m pipeline` from {root}\n"
            )
            raise SystemExit(2)
    # Plugins that watch every validation: finding out that there are none reads the records of all
    # that is installed.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Loading leaves no garbage, and looking for it is a tenth of the start; a command switches it
    # on when it is loaded.
    gc.disable()
    try:
        from pipeline.cli import run_cli
    except KeyboardInterrupt:  # from here on it is told by the command line
        sys.stderr.write("error: interrupted; nothing was begun\n")
        raise SystemExit(2) from None
    run_cli()


if __name__ == "__main__":
    main()
