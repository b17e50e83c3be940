"""What every test gets: no network, folders in memory, and the real data where it is."""

import gc
import os
import signal
import socket
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.fixtures.forks import CAN_FORK, serve_the_workers
from tests.fixtures.in_memory import in_memory
from tests.fixtures.installed import remember_what_is_installed

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # models are tiny, and workers share the cores
if memory := in_memory():
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", memory)  # below it is every `tmp_path`

pytest_plugins = ("tests.plugins.needs", "tests.plugins.longest_first")

_ROOT = Path(__file__).resolve().parent.parent

# A shell that runs the tests in the background has them ignore Ctrl-C, which some of them send.
signal.signal(signal.SIGINT, signal.default_int_handler)

remember_what_is_installed()

# A busy machine is no reason to fail; what must be fast is measured by the benchmarks.
settings.register_profile("prefline", deadline=None)
settings.load_profile("prefline")


def pytest_configure(config: pytest.Config) -> None:
    """Load the libraries once for the commands that all workers of xdist start."""
    is_worker = hasattr(config, "workerinput")
    if CAN_FORK and not is_worker and config.getoption("numprocesses", None):
        serve_the_workers()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while all is imported, nor later among what was."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; tests that need it skip where it is absent."""
    named = os.environ.get("PREFLINE_REAL_DATA")
    folder = Path(named) if named else _ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set PREFLINE_REAL_DATA")
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what runs share out of the user's cache folder."""
    os.environ["PREFLINE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that leaves this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family != socket.AF_UNIX and host not in {"127.0.0.1", "::1", "localhost"}:
            raise OSError(f"a test tried to reach {host}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)
