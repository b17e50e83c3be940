"""How the program starts."""

import os
import sys
from types import ModuleType

import pytest

from pipeline import __main__, cli
from pipeline.cli.main import _at_words


@pytest.mark.parametrize(
    ("cores", "policy", "count", "becomes"),
    [
        (2, None, None, "1000"),
        (2, None, "5", "5"),
        (2, "ACTIVE", None, None),
        (64, None, None, None),
    ],
)
def test_threads_do_not_spin_for_long_unless_told_to(
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    policy: str | None,
    count: str | None,
    becomes: str | None,
) -> None:
    seen = []
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(cli, "run_cli", lambda: seen.append(os.environ.get("GOMP_SPINCOUNT")))
    for name, value in (("OMP_WAIT_POLICY", policy), ("GOMP_SPINCOUNT", count)):
        monkeypatch.setenv(name, value or "")
        if value is None:
            monkeypatch.delenv(name)
    __main__.main()
    assert seen == [becomes]


def test_an_interrupt_while_the_program_is_loaded_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Loading(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "pipeline.cli", Loading("pipeline.cli"))
    with pytest.raises(SystemExit, match="2"):
        __main__.main()
    assert capsys.readouterr().err == "error: interrupted; nothing was begun\n"


def test_an_error_on_a_terminal_is_broken_at_words(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "error: runs/a-folder-with-a-long-name: " + "some words " * 12
    assert _at_words(said) == said
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    lines = _at_words(said).splitlines()
    assert max(map(len, lines)) < 40
    assert " ".join(line.strip() for line in lines) == said.strip()
