"""Each rule on examples that pass and examples that do not."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from schemas.errors import DataError, MissingInputError
from schemas.labels import Message, Preference
from stages.ingest.examples import (
    ComparisonExample,
    DemonstrationExample,
    Example,
    PromptExample,
)
from stages.ingest.filters.apply_filters import screen, screen_frame
from stages.ingest.filters.config import Filter
from stages.ingest.filters.refusals import is_refusal
from stages.ingest.frames.examples import examples_frame


def turn(role: str, text: str) -> list[Message]:
    return [{"role": role, "content": text}]


def pair(
    a: str = "yes", b: str = "no", label: str = "A", prompt: str = "Hi", **more: Any
) -> ComparisonExample:
    answers = (turn("assistant", a), turn("assistant", b))
    return ComparisonExample(turn("user", prompt), *answers, Preference(label), **more)


SORRY, FINE = "I'm sorry, but I can't help with that.", "Of course: boil it."


@pytest.mark.parametrize(
    ("rule", "example", "detail"),
    [
        ({"kind": "length_ratio", "max_ratio": 3}, pair("x" * 9, "yyy"), None),
        ({"kind": "length_ratio", "max_ratio": 3}, pair("x" * 10, "yyy"), "10 to 3 characters"),
        ({"kind": "language", "allowed": ["English"]}, pair(language="english"), None),
        ({"kind": "language", "allowed": ["English"]}, pair(language="de"), "tagged de"),
        ({"kind": "language", "allowed": ["English"]}, pair(), None),
        (
            {"kind": "language", "allowed": ["en"], "untagged": "reject"},
            pair(),
            "no language tag",
        ),
        ({"kind": "empty"}, pair("5", "日"), None),
        ({"kind": "empty"}, pair("...", "no"), "completion 1 without a letter or digit"),
        ({"kind": "empty"}, pair(prompt="?!"), "prompt without a letter or digit"),
        (
            {"kind": "identical"},
            pair("Yes, sir", "yes!  SIR"),
            "the completions are the same words",
        ),
        ({"kind": "identical"}, pair("Yes, sir", "yes, sire"), None),
        ({"kind": "identical"}, pair("...", "!!!"), None),
        ({"kind": "language", "allowed": ["en"]}, pair(language="EN"), None),
        ({"kind": "language", "allowed": ["EN"]}, pair(language="en"), None),
        ({"kind": "refusal_pairs"}, pair(SORRY, "Sorry, I cannot."), "both refused"),
        ({"kind": "refusal_pairs"}, pair(SORRY, FINE), None),
        ({"kind": "refusal_pairs", "where": "chosen"}, pair(SORRY, FINE), "chosen refused"),
        ({"kind": "refusal_pairs", "where": "chosen"}, pair(SORRY, FINE, "B"), None),
        (
            {"kind": "refusal_pairs", "where": "rejected"},
            pair(SORRY, FINE, "B"),
            "rejected refused",
        ),
        ({"kind": "refusal_pairs", "where": "chosen"}, pair(SORRY, FINE, "Tie"), None),
        ({"kind": "refusal_pairs", "where": "either"}, pair(SORRY, FINE, "Tie"), "either refused"),
        ({"kind": "min_margin", "min_margin": 2}, pair(strength=2.0), None),
        ({"kind": "min_margin", "min_margin": 2}, pair(strength=1.5), "strength 1.5 below 2"),
        ({"kind": "min_margin", "min_margin": 2}, pair(), None),
        ({"kind": "min_margin", "min_margin": 2, "unknown": "reject"}, pair(), "no strength"),
        ({"kind": "min_margin", "min_margin": 2}, pair(label="Tie", strength=0.0), "a tie"),
        ({"kind": "max_characters", "limit": 5}, pair("yes", "no"), None),
        ({"kind": "max_characters", "limit": 4}, pair("yes", "no"), "5 characters, at most 4"),
    ],
)
def test_rules(rule: dict[str, Any], example: Example, detail: str | None) -> None:
    found = screen([TypeAdapter(Filter).validate_python(rule)], example, "s")
    assert (found and (found.reason, found.detail)) == (detail and (rule["kind"], detail))


@pytest.mark.parametrize(
    ("said", "refuses"),
    [
        (SORRY, True),
        ("I apologize, but as an AI language model I do not have opinions.", True),
        ("As an AI, I don't have feelings.", True),
        ("I cannot assist with that.", True),
        ("Unfortunately, I'm not able to do this.", True),
        ("I won’t do that.", True),
        ("Sorry to hear that! Have you tried tea?", False),
        ("I'm sorry for your loss.", False),
        ("Unfortunately the shop closed in 1990.", False),
        ("You can't go wrong with pizza. I'm sorry I have only one.", False),
        ("", False),
    ],
)
def test_refusals_open_with_a_denial(said: str, refuses: bool) -> None:
    assert is_refusal(said) is refuses


def test_rules_of_pairs_let_other_rows_pass() -> None:
    rules = [
        TypeAdapter(Filter).validate_python(rule)
        for rule in (
            {"kind": "length_ratio"},
            {"kind": "identical"},
            {"kind": "refusal_pairs"},
            {"kind": "min_margin", "min_margin": 1, "unknown": "reject"},
        )
    ]
    assert screen(rules, PromptExample(turn("user", "Hi")), "s") is None
    shown = DemonstrationExample(turn("user", "Hi"), turn("assistant", SORRY))
    assert screen(rules, shown, "s") is None


def test_a_rule_may_be_for_some_sources_and_the_first_that_objects_speaks() -> None:
    rules = [
        TypeAdapter(Filter).validate_python(rule)
        for rule in (
            {"kind": "max_characters", "limit": 1, "sources": ["other"]},
            {"kind": "identical"},
            {"kind": "max_characters", "limit": 2},
        )
    ]
    same = pair("a b", "A b")
    assert [screen(rules, same, s).reason for s in ("mine", "other")] == [  # type: ignore[union-attr]
        "identical",
        "max_characters",
    ]


SAID = [
    "yes",
    "Yes!",
    "…",
    "?!",
    "日本",
    "ja é",
    "x" * 30,
    "\u212a",
    "k",
    "İs",
    "i\u0307s",
    "5",
    "",
]
OPENINGS = [SORRY, "Sorry, I can't.", "as an AI I won't", "“I cannot” he said", "as always", "I do"]
TEXTS = st.sampled_from([*SAID, *OPENINGS])
RULES = [
    {"kind": "length_ratio", "max_ratio": 3},
    {"kind": "language", "allowed": ["English", "de"]},
    {"kind": "language", "allowed": ["de"], "untagged": "reject"},
    {"kind": "empty"},
    {"kind": "identical"},
    {"kind": "refusal_pairs"},
    {"kind": "refusal_pairs", "where": "chosen"},
    {"kind": "refusal_pairs", "where": "rejected"},
    {"kind": "refusal_pairs", "where": "either"},
    {"kind": "min_margin", "min_margin": 2},
    {"kind": "min_margin", "min_margin": 2, "unknown": "reject"},
    {"kind": "max_characters", "limit": 20},
]


@st.composite
def examples(draw: st.DrawFn) -> Example:
    said = [{"role": r, "content": draw(TEXTS)} for r in ("user", "assistant", "user")]
    prompt: Any = said[: draw(st.sampled_from((1, 3)))]
    language = draw(st.sampled_from((None, "english", "de", "DE", "fr")))
    kind = draw(st.sampled_from(("pair", "pair", "pair", "demonstration", "prompt")))
    if kind == "prompt":
        return PromptExample(prompt, language=language)
    a, b = (turn("assistant", draw(TEXTS)) for _ in range(2))
    if kind == "demonstration":
        return DemonstrationExample(prompt, a, language=language)
    label = draw(st.sampled_from(list(Preference)))
    strength = draw(st.sampled_from((None, 0.0, 1.0, 2.0, 3.0)))
    return ComparisonExample(prompt, a, b, label, strength, language=language)


@settings(max_examples=300, deadline=None)
@given(st.lists(examples(), max_size=6), st.lists(st.sampled_from(RULES), max_size=4))
def test_columns_leave_out_what_the_rules_leave_out(
    given_examples: list[Example], given_rules: list[dict[str, Any]]
) -> None:
    rules = [TypeAdapter(Filter).validate_python(rule) for rule in given_rules]
    rows = [(7 + 2 * i, example) for i, example in enumerate(given_examples)]
    frame = examples_frame(rows)
    expected = {row: screen(rules, example, "s") for row, example in rows}
    rejects, kept = screen_frame(rules, frame, "s")
    assert {row: (e.reason, e.detail) for row, e in rejects} == {
        row: (e.reason, e.detail) for row, e in expected.items() if e is not None
    }
    assert kept["row"].to_list() == [row for row, error in expected.items() if error is None]
    assert kept.schema == frame.schema


@pytest.mark.parametrize("settings", RULES)
def test_columns_leave_out_what_one_rule_leaves_out(settings: dict[str, Any]) -> None:
    """Alone, as several rules hide which of them had too few suspects."""
    rule = TypeAdapter(Filter).validate_python(settings)
    said = [*SAID[:-1], *OPENINGS]
    languages = itertools.cycle((None, "english", "de", "DE", "fr"))
    strengths = itertools.cycle((None, 0.0, 1.0, 2.0, 3.0, 2.5, 1.5))
    rows = [
        (i, pair(a, b, label, strength=next(strengths), language=next(languages)))
        for i, (a, b, label) in enumerate(itertools.product(said, said, ("A", "B", "Tie")))
    ]
    rejects, _ = screen_frame([rule], examples_frame(rows), "s")
    expected = {row for row, example in rows if screen([rule], example, "s") is not None}
    assert {row for row, _ in rejects} == expected
    assert 0 < len(expected) < len(rows)


def test_tokens_are_counted_by_the_tokenizer(tmp_path: Path) -> None:
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    for place in (tmp_path, tmp_path / "tokenizer.json"):
        rule = {"kind": "max_tokens", "limit": 5, "tokenizer": str(place)}
        at_most_five = TypeAdapter(Filter).validate_python(rule)
        assert screen([at_most_five], pair("a b c", "d", prompt="x y"), "s") is None
        error = screen([at_most_five], pair("a b c", "d e f g", prompt="x y"), "s")
        assert error is not None
        assert (error.reason, error.detail) == ("max_tokens", "6 tokens, at most 5")
    rule = {"kind": "max_tokens", "limit": 5, "tokenizer": str(tmp_path / "none.json")}
    missing = TypeAdapter(Filter).validate_python(rule)
    with pytest.raises(DataError, match=r"none\.json: not a tokenizer"):
        screen([missing], pair(), "s")
    with pytest.raises(MissingInputError, match=r"none\.json: no tokenizer"):
        missing.files()
    frame = examples_frame([(0, pair("a b", "c")), (1, pair("a b c d", "d", prompt="x y"))])
    rejects, kept = screen_frame([at_most_five], frame, "s")
    assert [(row, error.detail) for row, error in rejects] == [(1, "6 tokens, at most 5")]
    assert len(kept) == 1
