"""From replies to verdicts: text, label tokens, refusals."""

import math

import pytest

from evals.judges.openai.label_logprobs import LabelTokenIds, begun_label
from evals.judges.openai.read_reply import read_verdict
from evals.judges.openai.replies import MalformedReply, Reply, TokenChoice, read_reply
from evals.judges.verdicts.refusals import is_refusal
from schemas.labels import Answer, LabelProbabilities, Preference, Unscored
from tests.fixtures.chaos_server import completion


@pytest.mark.parametrize(
    "text", ["I'm sorry, but I cannot compare these.", "I can’t help with that.", "As an AI, I"]
)
def test_refusals_are_known(text: str) -> None:
    assert is_refusal(text)
    verdict = read_verdict(Reply(text), 0.5, None, True)
    assert isinstance(verdict, Unscored)
    assert (verdict.reason, verdict.raw) == ("refused", text)


def test_a_verdict_after_regrets_is_a_verdict() -> None:
    verdict = read_verdict(Reply("I'm sorry that both fail.\nVerdict: B"), 0.5, None, False)
    assert isinstance(verdict, LabelProbabilities)
    assert verdict.preference is Preference.B


def by_top(token: str, content: str, **logprobs: float) -> Answer | None:
    choice = TokenChoice(token, {k: math.log(v) for k, v in logprobs.items()})
    return read_verdict(Reply(content, choices=(choice,)), 0.5, None, True)


def test_probabilities_of_label_tokens_by_hand() -> None:
    verdict = by_top("A", "A", **{"A": 0.5, " A": 0.1, "B": 0.2, "Tie": 0.1, "The": 0.05})
    assert isinstance(verdict, LabelProbabilities)
    assert verdict.label_mass == pytest.approx(0.9)
    assert (verdict.p_a, verdict.p_b, verdict.p_tie) == pytest.approx(
        (0.6 / 0.9, 0.2 / 0.9, 0.1 / 0.9)
    )


def test_a_label_of_several_tokens_counts_by_its_first() -> None:
    verdict = by_top("T", "Tie", T=0.6, A=0.2, B=0.1)
    assert isinstance(verdict, LabelProbabilities)
    assert verdict.p_tie == pytest.approx(0.6 / 0.9)
    other = by_top("T", "The first", T=0.6, A=0.2, B=0.1)
    assert isinstance(other, Unscored)
    assert other.reason == "low_label_mass", "T began another word"
    article = by_top("A", "A better answer is B", A=0.9, B=0.05)
    assert isinstance(article, Unscored)
    assert article.reason == "low_label_mass"


@pytest.mark.parametrize(
    ("token", "label"),
    [
        ("A", "A"),
        (" B", "B"),
        ("T", "Tie"),
        ("ti", "Tie"),
        ("TIE", "Tie"),
        ("Ties", None),
        ("a", None),
        ("", None),
        ("AB", None),
    ],
)
def test_what_a_token_begins(token: str, label: str | None) -> None:
    assert begun_label(token) == (Preference(label) if label else None)


def test_decoration_before_the_label_is_passed_over() -> None:
    choices = (TokenChoice("**", {"**": -0.1, "A": -3}), TokenChoice("B", {"B": -0.1, "A": -3.0}))
    verdict = read_verdict(Reply("**B**", choices=choices), 0.5, None, True)
    assert isinstance(verdict, LabelProbabilities)
    assert verdict.preference is Preference.B


def test_label_tokens_by_id_stand_where_the_label_stands() -> None:
    ids = LabelTokenIds([7], {Preference.A: 1, Preference.B: 2, Preference.TIE: 3})
    shared = TokenChoice("token_id:7", {"token_id:7": -0.1})
    label = TokenChoice(
        "token_id:1", {f"token_id:{i}": math.log(p) for i, p in ((1, 0.6), (2, 0.2), (3, 0.1))}
    )
    verdict = read_verdict(Reply(" A", choices=(shared, label)), 0.5, ids, True)
    assert isinstance(verdict, LabelProbabilities)
    assert verdict.label_mass == pytest.approx(0.9)
    strayed = TokenChoice("token_id:9", {"token_id:9": -0.1})
    verdict = read_verdict(Reply("x", choices=(strayed, label)), 0.5, ids, True)
    assert isinstance(verdict, Unscored)
    assert verdict.reason == "no_label_mass"


def test_replies_survive_the_disk() -> None:
    reply = read_reply(completion("A", {"A": -0.5, "ø": -2.0}))
    assert Reply.from_json(reply.to_json()) == reply
    assert (reply.prompt_tokens, reply.model) == (100, "chaos-1")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "empty_choices"),
        ({"choices": [None]}, "malformed_reply"),
        ({"choices": [{"message": {"content": 3}}]}, "malformed_reply"),
        (completion("A", {"A": 2.0}), "malformed_reply"),
        ("text", "malformed_reply"),
    ],
)
def test_what_is_no_completion_is_said(body: object, reason: str) -> None:
    with pytest.raises(MalformedReply) as raised:
        read_reply(body)
    assert raised.value.reason == reason
