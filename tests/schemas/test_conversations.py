"""Conversations as people write them become one kind of messages, or are refused in a sentence."""

from typing import Any

import pytest

from schemas.conversations import (
    ConversationError,
    is_cut_in_thought,
    messages_of,
    normalise_messages,
    thought_and_answer,
)
from schemas.ids import canonical_messages, prompt_id

CALL = {"type": "function", "function": {"name": "look_up", "arguments": {"word": "sea"}}}
WRITTEN = {"function": {"name": "look_up", "arguments": '{"word": "sea"}'}}


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({"role": "user", "content": "hi"}, {"role": "user", "content": "hi"}),
        ({"from": "human", "value": "hi"}, {"role": "user", "content": "hi"}),
        ({"from": "gpt", "value": "ho"}, {"role": "assistant", "content": "ho"}),
        ({"role": "developer", "content": "no"}, {"role": "developer", "content": "no"}),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"text": "b"}]},
            {"role": "user", "content": "ab"},
        ),
        (
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "assistant", "content": "", "tool_calls": [WRITTEN]},
        ),
        (
            {"role": "assistant", "content": "4", "reasoning_content": "two and two"},
            {"role": "assistant", "content": "4", "reasoning": "two and two"},
        ),
        (
            {"role": "assistant", "content": "<think>\ntwo and two\n</think>\n\n4"},
            {"role": "assistant", "content": "4", "reasoning": "two and two"},
        ),
        (
            {"role": "tool", "content": "4 C", "name": "weather", "tool_call_id": "x", "weight": 1},
            {"role": "tool", "content": "4 C", "name": "weather", "tool_call_id": "x",
             "extra": '{"weight": 1}'},
        ),
    ],
)  # fmt: skip
def test_every_way_to_write_a_turn(turn: Any, message: Any) -> None:
    assert normalise_messages([turn]) == [message]
    assert normalise_messages(normalise_messages([turn])) == [message]


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([], "not_a_conversation"),
        ("hello", "not_a_conversation"),
        ([{"content": "hi"}], "no_role"),
        ([{"role": "narrator", "content": "hi"}], "unknown_role"),
        ([{"role": "user", "content": None}], "no_content"),
        ([{"role": "user", "content": [{"type": "image", "image": "x"}]}], "not_text"),
        ([{"role": "user", "content": [{"type": "input_audio", "data": "x"}]}], "not_text"),
        ([{"role": "user", "content": 3}], "bad_content"),
        ([{"role": "assistant", "content": "", "tool_calls": [{}]}], "bad_tool_call"),
    ],
)
def test_what_cannot_be_read_is_refused(turns: Any, reason: str) -> None:
    with pytest.raises(ConversationError) as error:
        normalise_messages(turns)
    assert error.value.reason == reason


@pytest.mark.parametrize(
    "text",
    [
        '[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]',
        "[{'role': 'user', 'content': 'hi'}, {'role': 'assistant', 'content': 'ho'}]",
        "\n\nHuman: hi\n\nAssistant: ho",
        "Human: hi\n\nAssistant: ho\n\n",
    ],
)
def test_a_conversation_in_a_string_is_one(text: str) -> None:
    said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    assert messages_of(text) == said


def test_a_transcript_that_waits_for_the_assistant_ends_with_the_person() -> None:
    asked = "\n\nHuman: How do I bake bread?\n\nAssistant:"
    assert messages_of(asked) == [{"role": "user", "content": "How do I bake bread?"}]
    assert messages_of("Human: is a word")[0]["content"] == "Human: is a word"


@pytest.mark.parametrize(
    "text",
    ["<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "<s>[INST] hi [/INST]"],
)
def test_rendered_text_is_no_turn(text: str) -> None:
    with pytest.raises(ConversationError, match="rendered already"):
        messages_of(text)
    assert messages_of("What does <|im_start|> mean?")


def test_plain_turns_keep_their_ids_and_the_rest_counts() -> None:
    plain = [{"role": "assistant", "content": "4"}]
    assert canonical_messages(plain) == "assistant:1:4"  # type: ignore[arg-type]
    as_read: Any = [{**plain[0], "reasoning": None, "tool_calls": None, "name": None}]
    assert canonical_messages(as_read) == "assistant:1:4"
    others: list[Any] = [
        [{**plain[0], "reasoning": "x"}],
        [{**plain[0], "tool_calls": [WRITTEN]}],
        [{**plain[0], "tool_calls": [{**WRITTEN, "id": "1"}]}],
        [{**plain[0], "name": "x"}],
    ]
    assert len({prompt_id(one) for one in [plain, *others]}) == 5


@pytest.mark.parametrize(
    ("message", "finish", "cut"),
    [
        ({"content": "", "reasoning": "hm"}, "length", True),
        ({"content": "", "reasoning": "hm"}, "stop", False),
        ({"content": "4", "reasoning": "hm"}, "length", False),
        ({"content": "<think>\nhm"}, "length", True),
        ({"content": "<think>\nhm"}, None, True),
        ({"content": "<think>\nhm\n</think>\n\n"}, "length", True),
        ({"content": "<think>\nhm\n</think>\n\n4"}, "length", False),
        ({"content": ""}, "length", False),
        ({"content": "", "reasoning": "hm", "tool_calls": [WRITTEN]}, "length", False),
    ],
)
def test_a_completion_that_is_cut_inside_its_thoughts_has_no_answer(
    message: Any, finish: str | None, cut: bool
) -> None:
    turn: Any = {"role": "assistant", **message}
    assert is_cut_in_thought([turn], finish) is cut


def test_thought_and_answer_are_told_apart_however_they_are_kept() -> None:
    kept: Any = {"role": "assistant", "content": "4", "reasoning": "easy"}
    inline: Any = {"role": "assistant", "content": "<think>\neasy\n</think>\n\n4"}
    assert thought_and_answer(kept) == thought_and_answer(inline) == ("easy", "4")
    asked: Any = inline | {"role": "user"}
    assert thought_and_answer(asked) == ("", inline["content"])
