"""What a test needs that a machine may lack: vLLM, Ray, TRL, a browser, a GPU. It bears that mark.

A test without what it needs is skipped. `PREFLINE_REQUIRE`, in which CI names all but the GPU,
makes that a failure: there everything named must be installed and tested, and nothing be skipped.
"""

import os
import shutil
from collections.abc import Callable, Generator, Iterable
from importlib.util import find_spec

import pytest

ABSENT = {
    "vllm": "vLLM is not installed (make vllm)",
    "ray": "Ray is not installed (make ray)",
    "trl": "TRL is not installed (make trl)",
    "moto": "moto's server is not installed (requirements/dev.txt)",
    "browser": "there is no browser to drive (Debian: chromium, chromium-driver)",
    "gpu": "there is no GPU here",
}


def is_here(need: str) -> bool:
    """Whether this machine has it."""
    if need == "browser":
        return shutil.which("chromedriver") is not None
    if need == "gpu":
        import torch

        return torch.cuda.is_available()
    return find_spec(need) is not None


def required() -> frozenset[str]:
    """What `PREFLINE_REQUIRE` names."""
    return frozenset(filter(None, os.environ.get("PREFLINE_REQUIRE", "").split(",")))


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks, refuse a requirement that nobody knows, and keep count."""
    for need in ABSENT:
        config.addinivalue_line("markers", f"{need}: needs what its name says")
    if unknown := required() - set(ABSENT):
        raise pytest.UsageError(f"PREFLINE_REQUIRE: {sorted(unknown)}; known: {sorted(ABSENT)}")
    if not hasattr(config, "workerinput"):  # workers of xdist report to the one that counts
        config.pluginmanager.register(Tally(required()), "prefline-tally")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail, a test whose need is not met, before any fixture is made."""
    for need in _needs(item):
        if not is_here(need):
            (pytest.fail if need in required() else pytest.skip)(ABSENT[need])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write on each report what its test needs, as the count is kept in another process."""
    report = yield
    report.needs = _needs(item)  # type: ignore[attr-defined]
    return report


def _needs(item: pytest.Item) -> list[str]:
    return [need for need in ABSENT if item.get_closest_marker(need)]


class Tally:
    """Counts what ran and what was skipped by need, and says it at the end."""

    def __init__(self, required: Iterable[str]) -> None:
        self._required = frozenset(required)
        self._ran: dict[str, set[str]] = {need: set() for need in ABSENT}
        self._skipped: dict[str, set[str]] = {need: set() for need in ABSENT}
        self._reasons: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test: once, whatever the number of its reports."""
        for need in getattr(report, "needs", ()):
            if report.skipped:
                self._skipped[need].add(report.nodeid)
            elif report.when == "call" or report.failed:
                self._ran[need].add(report.nodeid)
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module may be skipped as a whole."""
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            self._reasons.append(f"{report.nodeid}: {str(reason).removeprefix('Skipped: ')}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run in which something required was skipped, or not tested at all."""
        if session.exitstatus == pytest.ExitCode.OK and self._missed():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _missed(self) -> list[str]:
        return [n for n in ABSENT if n in self._required and (self._skipped[n] or not self._ran[n])]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One line per need, then every skip with its reason."""
        say: Callable[[str], None] = terminalreporter.write_line
        for need in ABSENT:
            if self._required or self._ran[need] or self._skipped[need]:
                say(f"{need}: {len(self._ran[need])} ran, {len(self._skipped[need])} skipped")
        for reason in self._reasons:
            say(f"skipped: {reason}")
        for need in self._missed():
            say(f"{need} is required here: none of its tests may be skipped, and one must run")
