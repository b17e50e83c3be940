"""The modules that take longest are started first, so that no worker waits for the last of them.

`tests/plugins/cpu_seconds.json` holds what each took when `--record-cpu` was last given, as in
`make durations` or `PYTEST_ADDOPTS=--record-cpu make test`: seconds of CPU, its child processes'
included, so that a busy machine changes nothing.
"""

import json
import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.forks import cpu_of_forks

RECORD = Path(__file__).with_name("cpu_seconds.json")
_WORTH_NOTING = 2.0  # seconds
_SLOW = 20
_OF_A_WORKER = "cpu_seconds"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that records."""
    parser.addoption("--record-cpu", action="store_true", help=f"write {RECORD.name} anew")


def pytest_configure(config: pytest.Config) -> None:
    """Measure where asked to; workers of xdist measure, and the one that has them adds up."""
    if config.getoption("--record-cpu"):
        config.pluginmanager.register(Meter(), "prefline-meter")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by module, keeping the order of tests within each.

    What is not on record yet goes by its marks: a slow test takes what the mark says.
    """
    took = Counter[str]()
    for item in items:
        if item.get_closest_marker("slow"):
            took[_module(item.nodeid)] += _SLOW
    took |= Counter(json.loads(RECORD.read_text()))
    items.sort(key=lambda item: -took[_module(item.nodeid)])


def _module(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _cpu() -> float:
    used = os.times()
    own, children = used.user + used.system, used.children_user + used.children_system
    return own + children + cpu_of_forks()


class Meter:
    """Adds up what the tests of each module take, their fixtures included."""

    def __init__(self) -> None:
        self._took: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Measure one test."""
        before = _cpu()
        done = yield
        self._took[item.nodeid] = _cpu() - before
        return done

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a worker has measured, if it did not crash."""
        self._took |= getattr(node, "workeroutput", {}).get(_OF_A_WORKER, {})

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Keep what is worth sorting by, of what ran now or before."""
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[_OF_A_WORKER] = self._took
            return
        ran = Counter[str]()
        for nodeid, took in self._took.items():
            ran[_module(nodeid)] += took  # type: ignore[assignment]
        noted = {**json.loads(RECORD.read_text()), **ran}
        kept = [(name, took) for name, took in noted.items() if Path(name).exists()]
        longest = sorted(kept, key=lambda item: (-item[1], item[0]))
        rows = {name: round(took, 1) for name, took in longest if took >= _WORTH_NOTING}
        RECORD.write_text(json.dumps(rows, indent=1) + "\n")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the thirty longest tests."""
        for nodeid, took in sorted(self._took.items(), key=lambda item: -item[1])[:30]:
            terminalreporter.write_line(f"{took:8.1f} s of CPU  {nodeid}")
