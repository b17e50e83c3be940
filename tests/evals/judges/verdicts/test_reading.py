"""Replies are read as a careful person reads them, or not at all."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.judges.openai.read_reply import read_verdict
from evals.judges.openai.replies import Reply
from evals.judges.verdicts.folding import fold
from evals.judges.verdicts.grammar import json_form, pattern_form
from evals.judges.verdicts.labels import Label, offered
from evals.judges.verdicts.reading import last_verdict, read_label
from evals.judges.verdicts.thinking import without_thinking
from schemas.labels import LabelProbabilities, Preference
from tests.evals.judges.verdicts.replies import REPLIES

NONE = "-"


def read(text: str, cut: bool) -> str:
    reply = Reply(text, finish_reason="length" if cut else "stop")
    verdict = read_verdict(reply, 0.5, None, False)
    return verdict.preference.value if isinstance(verdict, LabelProbabilities) else NONE


@pytest.mark.parametrize("row", REPLIES, ids=lambda row: repr(row[0])[:60])
def test_no_reply_is_read_wrongly(row: tuple[str, str] | tuple[str, str, bool]) -> None:
    text, careful, flag = row if len(row) == 3 else (*row, None)
    unread = flag is False
    assert read(text, cut=flag is True) == (NONE if unread else careful)


def test_there_are_many_and_most_are_read() -> None:
    assert len(REPLIES) >= 120
    unread = sum(len(row) == 3 and row[2] is False for row in REPLIES)
    assert unread < len(REPLIES) / 20
    assert sum(not row[0].isascii() for row in REPLIES) >= 20


@settings(deadline=None)
@given(st.sampled_from([row[0] for row in REPLIES if len(row) == 2 and row[1] in ("A", "B")]))
def test_full_width_letters_are_read_as_plain_ones(text: str) -> None:
    wide = "".join(chr(ord(c) + 0xFEE0) if c.isalnum() and c.isascii() else c for c in text)
    if not any(tag in text for tag in ("think", "THINK", "channel", "\\", "{", "</")):
        assert last_verdict(wide) == last_verdict(text)


@given(st.text())
def test_folding_keeps_every_place(text: str) -> None:
    assert len(fold(text)) == len(text)
    assert fold(fold(text)) == fold(text)


@pytest.mark.parametrize(
    "unit",
    ["\n", " ", "verdict", "verdict:", "[[", "*", "#\n", "final ", "{", '{"verdict":', '"verdict":',
     "\\boxed{", "<think>", "Verdict: A\n", "Verdict:\n\n", "A ", "the ", "my final ", "> ", "- ",
     ". Verdict: A\n", "Вердикт: A ", "completion says ", "better A ", "it is a ", "A>", " \t*",
     "mixed up ", "mixed "],
)  # fmt: skip
def test_no_reply_takes_long(unit: str) -> None:
    """Four times the text takes about four times as long: nothing grows with its square."""

    def seconds(times: int) -> float:
        started = time.process_time()
        last_verdict(unit * times)
        return time.process_time() - started

    seconds(100)
    short, long = seconds(20_000 // len(unit)), seconds(80_000 // len(unit))
    assert long < 10 * short + 0.5


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("A>>B", Label(Preference.A, 2)),
        ("a > b", Label(Preference.A, 1)),
        ("A=B", Label(Preference.TIE)),
        ("B<A", Label(Preference.A, 1)),
        ("A<<<B", Label(Preference.B, 2)),
        ("A>A", None),
        ("model A", Label(Preference.A)),
        ("AB", None),
        ("C", None),
    ],
)
def test_labels_and_steps(text: str, label: Label | None) -> None:
    assert offered(text) == label


def test_thoughts_are_cut_away() -> None:
    assert without_thinking("<think>x</think> A") == "A"
    assert without_thinking("x</think>y</think>\n\nA") == "A"
    assert without_thinking("<think>x") is None
    assert without_thinking("<think>x</think>B<think>y") is None
    assert without_thinking("A") == "A"


def test_a_users_own_grammar_takes_the_place_of_ours() -> None:
    own = (pattern_form(r"^RATING=(\w+)$"),)
    assert last_verdict("Verdict: B\nRATING=A", own) is Preference.A
    assert last_verdict("Verdict: B", own) is None
    assert last_verdict("RATING=A\nRATING=B", own) is None, "a list of options"
    assert last_verdict("RATING=A\nWait, I mixed them up.", own) is None
    named = (pattern_form(r"(?P<number>\d): (?P<verdict>[AB])"),)
    assert last_verdict("1: B", named) is Preference.B
    key = (json_form(["besser"]),)
    assert last_verdict('{"verdict": "A", "besser": "B"}', key) is Preference.B
    assert read_label('{"besser": "A>>B"}', key) == Label(Preference.A, 2)
