"""How the program starts."""

import os

import pytest

from pipeline import __main__, cli


@pytest.mark.parametrize(("said", "becomes"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_leave_the_cores_alone_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, said: str | None, becomes: str
) -> None:
    seen = []
    monkeypatch.setattr(cli, "run_cli", lambda: seen.append(os.environ["OMP_WAIT_POLICY"]))
    monkeypatch.setenv("OMP_WAIT_POLICY", said or "")
    if said is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    __main__.main()
    assert seen == [becomes]
