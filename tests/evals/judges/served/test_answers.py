"""The file of answers: durable, shared, and whole after damage."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from evals.judges.openai.answer_cache import FILE_NAME, Answers, Tokens
from evals.judges.openai.replies import Reply
from schemas.errors import BackendError, ConfigError

ROOT = Path(__file__).parents[4]


def put(answers: Answers, *names: str, judge: str = "j") -> None:
    answers.put(judge, [(name, Reply(name), Tokens(10, 2)) for name in names])


def test_answers_come_back_and_are_counted(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "deep" / "folder")
    put(answers, "a", "b")
    put(answers, "c", judge="k")
    answers.close()
    again = Answers(tmp_path / "deep" / "folder")
    assert again.get("a") == Reply("a")
    assert again.get("z") is None
    assert again.tokens_of("j") == Tokens(20, 4)
    assert again.tokens_of("nobody") == Tokens(0, 0)
    again.close()


def test_two_processes_use_one_file(tmp_path: Path) -> None:
    mine = Answers(tmp_path)
    put(mine, "a")
    code = (
        "import sys; from pathlib import Path; from evals.judges.openai.answer_cache import *; "
        "from evals.judges.openai.replies import Reply; x = Answers(Path(sys.argv[1])); "
        "assert x.get('a'); x.put('j', [('b', Reply('b'), Tokens(1, 1))])"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)
    assert mine.get("b") == Reply("b")
    mine.close()


def test_a_torn_tail_is_not_read_and_the_rest_is(tmp_path: Path) -> None:
    """What a power cut leaves: a log whose last write is half there."""
    answers = Answers(tmp_path)
    for i in range(50):
        put(answers, f"a{i}")
    log = tmp_path / f"{FILE_NAME}-wal"
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / FILE_NAME).write_bytes((tmp_path / FILE_NAME).read_bytes())
    whole = log.read_bytes()
    (copy / log.name).write_bytes(whole[:-100] + b"\xff" * 60)
    answers.close()
    torn = Answers(copy)
    assert torn.damaged is None
    assert [torn.get(f"a{i}") for i in range(49)] == [Reply(f"a{i}") for i in range(49)]
    assert torn.get("a49") is None
    put(torn, "a49")
    assert torn.get("a49") == Reply("a49")
    torn.close()


def test_a_file_that_is_none_is_put_aside_and_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database at all" * 1000)
    answers = Answers(tmp_path)
    assert answers.damaged == tmp_path / f"{FILE_NAME}.damaged-1"
    assert answers.damaged.read_bytes().startswith(b"no database")
    put(answers, "a")
    assert answers.get("a") == Reply("a")
    answers.close()


def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"runtime\.judge_server\.cache"):
        Answers(tmp_path / "file")


def test_a_locked_full_or_damaged_file_is_one_line(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    put(answers, "a")
    answers._database.execute("PRAGMA busy_timeout = 0")
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BackendError, match=r"locked.*another program holds it"):
        put(answers, "b")
    other.execute("ROLLBACK")
    other.close()
    pages = answers._database.execute("PRAGMA page_count").fetchone()[0]
    answers._database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(BackendError, match=r"full.*make room"):
        put(answers, *(str(n) * 50 for n in range(3000)))
    answers.close()
