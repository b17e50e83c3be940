"""Answers of servers, kept so that none is paid for twice.

One SQLite file with a write-ahead log: a call counts once its answer is on the disk, a killed
process leaves every answer that counted, several processes may use the file at once, and what a
torn write left at its end is not read. Memory does not grow with the number of answers.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from evals.judges.openai.replies import Reply
from schemas.errors import BackendError, ConfigError
from schemas.files import first_line

FILE_NAME = "answers.sqlite"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    request TEXT PRIMARY KEY,
    judge TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    reply TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_judge ON answers (judge, prompt_tokens, completion_tokens);
CREATE TABLE IF NOT EXISTS abilities (judge TEXT PRIMARY KEY, ability TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Tokens:
    """Tokens read and written."""

    prompt: int
    completion: int


class Answers:
    """The answers in a folder. To be used in the thread that opened it."""

    def __init__(self, folder: Path) -> None:
        """Open or make the file; one that cannot be read is put aside, never deleted.

        `damaged` then names where it lies.

        Raises:
            ConfigError: the folder cannot be written.
        """
        self.damaged: Path | None = None
        self._path = path = folder / FILE_NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                self._database = _open(path)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                self.damaged = _put_aside(path)
                self._database = _open(path)
        except (OSError, sqlite3.OperationalError) as error:
            raise ConfigError(
                f"{path}: cannot be used ({error}); choose another folder with "
                "runtime.judge_server.cache"
            ) from error

    def get(self, request: str) -> Reply | None:
        """The answer to a request, if there is one that can be read."""
        with self._said():
            found = self._database.execute(
                "SELECT reply FROM answers WHERE request = ?", (request,)
            ).fetchone()
        try:
            return Reply.from_json(_checked(request, found[0])) if found else None
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def put(self, judge: str, answered: Iterable[tuple[str, Reply, Tokens]]) -> None:
        """Write answers to the disk, all in one transaction; they are there when it returns."""
        with self._said(), self._database:
            self._database.executemany(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)",
                [
                    (
                        *(request, judge, tokens.prompt, tokens.completion),
                        _with_check(request, reply.to_json()),
                    )
                    for request, reply, tokens in answered
                ],
            )

    def tokens_of(self, judge: str) -> Tokens:
        """Tokens of all answers that a judge has paid for."""
        with self._said():
            row = self._database.execute(
                "SELECT coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0) "
                "FROM answers WHERE judge = ?",
                (judge,),
            ).fetchone()
        return Tokens(*row)

    def ability(self, judge: str) -> str | None:
        """What was found out about the server earlier."""
        with self._said():
            row = self._database.execute(
                "SELECT ability FROM abilities WHERE judge = ?", (judge,)
            ).fetchone()
        return str(row[0]) if row else None

    def remember_ability(self, judge: str, ability: str) -> None:
        """Keep what was found out, so that a continued run asks the same way."""
        with self._said(), self._database:
            self._database.execute(
                "INSERT OR REPLACE INTO abilities VALUES (?, ?)", (judge, ability)
            )

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def _said(self) -> Iterator[None]:
        """What SQLite raises, in one line: the disk is full, another holds the lock, damage."""
        try:
            yield
        except sqlite3.Error as error:
            said = first_line(error)[:200]
            raise BackendError(f"{self._path}: {said}; {_remedy(error)}") from error


_CHECK_DIGITS = 16


def _with_check(request: str, reply: str) -> str:
    """The text of a reply behind a checksum, since SQLite keeps none of its pages."""
    return f"{_check(request, reply)} {reply}"


def _checked(request: str, kept: str) -> str:
    """The text of a reply as it was written; earlier versions kept it without a checksum.

    Raises:
        ValueError: it is not what was written.
    """
    if kept.startswith("{"):
        return kept
    check, _, reply = kept.partition(" ")
    if check != _check(request, reply):
        raise ValueError("the reply is not what was written")
    return reply


def _check(request: str, reply: str) -> str:
    return hashlib.sha256(f"{request} {reply}".encode()).hexdigest()[:_CHECK_DIGITS]


def _remedy(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another program holds it: end that, then run the same command again"
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return (
            "run the same command again: what cannot be read is put aside and asked again; if it "
            "comes back, move the file away"
        )
    return (
        "make room or give the right to write, or choose another folder with "
        "runtime.judge_server.cache, then run the same command again"
    )


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=60)
    try:
        # Damage to a text is seen by its checksum, not by an error that stops everything.
        database.text_factory = lambda data: data.decode("utf-8", "replace")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.executescript(_SCHEMA)
        database.execute("SELECT count(*) FROM (SELECT request FROM answers LIMIT 1)").fetchone()
    except BaseException:
        database.close()
        raise
    return database


def _put_aside(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.damaged-{n}") for n in count(1))
    aside = next(name for name in names if not name.exists())
    path.rename(aside)
    for tail in ("-wal", "-shm"):
        path.with_name(path.name + tail).unlink(missing_ok=True)
    return aside
