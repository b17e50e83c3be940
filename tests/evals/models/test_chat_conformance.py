"""Conversations through chat templates of every kind: what is trained is what would be written."""

import json
from collections.abc import Iterator
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from evals.models.chat.renderer import ChatRenderer
from evals.models.chat.rows import rendered_line
from schemas.errors import ConfigError
from tests.fixtures.chat_tokenizers import byte_level, sentence_piece

TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OPENS = TURNS.replace("assistant\n{%", "assistant\n<think>\n{%")
THOUGHTS = (
    "{% if m.role == 'assistant' and m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n"
    "</think>\n\n{% endif %}"
)
# One small template for each kind of behaviour.
KINDS: dict[str, str] = {
    "turns": TURNS,
    "trims": TURNS.replace("m.content }}", "m.content | trim }}"),
    "end of text behind the end of turn": TURNS.replace(
        "{% if add_generation_prompt %}",
        "{% if not add_generation_prompt %}{{ eos_token }}{% else %}",
    ),
    "drops the system turn": TURNS.replace("in messages", "in messages if m.role != 'system'"),
    "refuses a system turn": "{% if messages[0].role == 'system' %}"
    "{{ raise_exception('no system') }}{% endif %}" + TURNS,
    "opens a thought, writes none": OPENS,
    "opens a thought, has an argument of its own name": OPENS.replace(
        "{{ m.content }}", THOUGHTS + "{{ m.content }}"
    ).replace("<think>\n{% endif %}", "{% if ponder_thought | default(true) %}<think>\n"
              "{% else %}<think></think>{% endif %}{% endif %}"),
    "writes an empty thought": TURNS.replace(
        "{{ m.content }}",
        "{% if m.role == 'assistant' and loop.last %}<think>\n{{ m.reasoning_content | default('') "
        "}}\n</think>\n\n{% endif %}{{ m.content }}",
    ),
    "marks of its own": TURNS.replace(
        "{{ m.content }}",
        "{% if m.role == 'assistant' %}<|inner_begin|>{{ m.reasoning_content }}<|inner_end|>"
        "{% endif %}{{ m.content }}",
    ).replace("assistant\n{%", "assistant\n<|inner_begin|>{%"),
    "cuts thoughts out of the content": OPENS.replace(
        "{{ m.content }}", "{{ m.content.split('</think>')[-1] }}"
    ),
    "channels": "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}"
    "{% if m.thinking %}<|channel|>analysis<|message|>{{ m.thinking }}<|end|><|start|>assistant"
    "{% endif %}<|channel|>final{% endif %}<|message|>{{ m.content }}"
    "{% if loop.last and m.role == 'assistant' %}<|return|>{% else %}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}",
    "no header": "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] "
    "{{ m.content }} [/INST]{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}",
    "closes nothing": "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "content in parts": TURNS.replace(
        "{{ m.content }}", "{% for part in m.content %}{{ part.text }}{% endfor %}"
    ),
    "calls with arguments as text": TURNS.replace(
        "{{ m.content }}",
        "{{ m.content or '' }}{% for c in m.tool_calls or [] %}<tool_call>{\"name\": "
        "\"{{ c.function.name }}\", \"arguments\": {{ c.function.arguments + '' }}}</tool_call>"
        "{% endfor %}",
    ),
}  # fmt: skip

ASKED = {"role": "user", "content": "Where is it?"}
CALL = {"function": {"name": "look_up", "arguments": {"word": "sea", "n": 3}}}


def said(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


CASES: dict[str, list[dict[str, Any]]] = {
    "single turn": [ASKED, said("Over there.")],
    "system": [{"role": "system", "content": "Be short."}, ASKED, said("There.")],
    "several turns": [ASKED, said("There."), ASKED, said("Still there.")],
    "indented code": [ASKED, said("def f(x):\n    if x:\n        return  x\n")],
    "trailing space": [ASKED, said("There. \n\n")],
    "thinking": [ASKED, said("There.", reasoning_content="easy")],
    "thinking in the text": [ASKED, said("<think>\neasy\n</think>\n\nThere.")],
    "thinking in history": [
        ASKED, said("There.", reasoning_content="old"), ASKED, said("No.", reasoning_content="new")
    ],
    "a tool call": [ASKED, said("", tool_calls=[CALL])],
    "an empty answer": [ASKED, said("")],
    "a mark in the text": [ASKED, said("A </think> closes it.")],
}  # fmt: skip


def trl_templates() -> Iterator[Path]:
    """The templates that TRL ships as the models have them, for text alone."""
    spec = find_spec("trl")
    if spec is None or not spec.submodule_search_locations:
        return
    folder = Path(spec.submodule_search_locations[0]) / "chat_templates"
    for file in sorted(folder.glob("*.jinja")):
        if not file.stem.endswith(("_training", "_vl")) and file.stem not in {
            "idefics3", "llava_next", "smolvlm",
        }:  # fmt: skip
            yield file


def rendered(renderer: ChatRenderer, row: dict[str, Any]) -> list[dict[str, Any]]:
    return list(rendered_line(json.dumps(row).encode(), renderer))


def check(renderer: ChatRenderer, messages: list[dict[str, Any]]) -> None:
    """What must hold of any conversation through any template."""
    (record,) = rendered(renderer, {"messages": messages})
    if "error" in record:
        assert set(record) == {"error"}
        assert "\n" not in record["error"]
        assert "template" in record["error"]
        return
    prompt, ids = record["prompt_ids"], record["completion_ids"]
    assert record["trained"] == [True] * len(ids)
    assert ids[-1] == record["end_id"] in renderer.end_ids
    assert record["neutralised"] == 0
    assert "\u2060" not in record["prompt_text"] + record["completion_text"]
    text = renderer.in_place.text([], [*prompt, *ids])
    assert text.removeprefix("<bos>") == (
        record["prompt_text"] + record["completion_text"]
    ).removeprefix("<bos>")
    assert prompt.count(renderer.tokenizer.bos_token_id) <= 1
    last = messages[-1]
    answer, thought = last["content"], last.get("reasoning_content")
    if answer.startswith("<think>"):
        thought, answer = "easy", "There."
    message = record["message"]
    assert message["content"].strip() == answer.strip()
    assert message["reasoning"] == thought
    calls = [(c["function"]["name"], c["function"]["arguments"]) for c in message["tool_calls"]]
    wanted = [c["function"] for c in last.get("tool_calls", ())]
    assert calls == [(c["name"], c["arguments"]) for c in wanted]
    if thought is None:  # an answer stands in no open thought, and no empty one is trained
        assert not record["prompt_text"].rstrip().endswith(("<think>", "<|inner_begin|>"))
        assert not record["completion_text"].lstrip().startswith(("<think>", "</think>"))
        assert "<think>" not in renderer.tokenizer.convert_ids_to_tokens(ids)


@pytest.mark.parametrize("special", ["usual", "all", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_template(kind: str, special: Any) -> None:
    renderer = ChatRenderer(byte_level(KINDS[kind], special=special), today=date(2026, 1, 1))
    for messages in CASES.values():
        check(renderer, messages)


@pytest.mark.trl
@pytest.mark.parametrize("file", list(trl_templates()), ids=lambda file: file.stem)
def test_every_template_that_trl_ships(file: Path) -> None:
    for special in ("usual", "none"):
        tokenizer = byte_level(file.read_text(), special=special)
        renderer = ChatRenderer(tokenizer, today=date(2026, 1, 1))
        for messages in CASES.values():
            check(renderer, messages)


@pytest.mark.trl
def test_the_templates_of_trl_are_found() -> None:
    assert len(list(trl_templates())) >= 23


def one(kind: str, completion: dict[str, Any], **more: Any) -> dict[str, Any]:
    renderer = ChatRenderer(byte_level(KINDS[kind]))
    (record,) = rendered(renderer, {"prompt": [ASKED], "completion": [completion], **more})
    return record


def test_a_thought_that_the_prompt_opens_is_closed_there_and_not_trained() -> None:
    record = one("opens a thought, writes none", said("There."))
    assert record["prompt_text"].endswith("assistant\n<think>\n\n</think>\n\n")
    assert record["completion_text"] == "There.<|im_end|>"
    record = one("opens a thought, writes none", said("There.", thinking="easy"))
    assert record["prompt_text"].endswith("assistant\n<think>\n")
    assert record["completion_text"] == "easy\n</think>\n\nThere.<|im_end|>"


def test_the_templates_own_argument_switches_thinking_off_whatever_its_name() -> None:
    record = one("opens a thought, has an argument of its own name", said("There."))
    assert record["prompt_text"].endswith("assistant\n<think></think>")
    assert record["completion_text"] == "There.<|im_end|>"


def test_the_header_of_a_channel_is_written_and_is_no_content() -> None:
    record = one("channels", said("There."))
    assert record["completion_text"] == "<|channel|>final<|message|>There.<|return|>"
    assert record["message"]["content"] == "There."


def test_what_stands_behind_the_end_of_turn_is_not_trained() -> None:
    for kind in ("turns", "end of text behind the end of turn"):
        assert one(kind, said("There."))["completion_text"] == "There.<|im_end|>"


def test_a_turn_that_the_template_would_drop_is_refused_with_the_reason() -> None:
    for kind, why in (("drops the system turn", "leaves out"), ("refuses a system turn", "no sys")):
        renderer = ChatRenderer(byte_level(KINDS[kind]))
        (record,) = rendered(renderer, {"messages": CASES["system"]})
        assert why in record["error"]


def test_only_structure_is_neutralised() -> None:
    text = "a<|im_end|>b    c<think>d\u2060e"
    renderer = ChatRenderer(byte_level(KINDS["turns"], marks=["<|im_start|>", "<|im_end|>",
                                                              "<think>", "</think>"]))  # fmt: skip
    (record,) = rendered(renderer, {"messages": [{"role": "user", "content": text}, said(text)]})
    broken = "a<\u2060|im_end|>b    c<think>d\u2060e"
    assert broken in record["prompt_text"]
    assert record["completion_text"] == broken + "<|im_end|>"
    assert record["neutralised"] == 2
    tokens = renderer.tokenizer.convert_ids_to_tokens(record["completion_ids"])
    assert tokens.count("<|im_end|>") == 1
    assert "<think>" in tokens


def test_the_beginning_of_an_answer_is_gone_on_from() -> None:
    row = {
        "prompt": [ASKED, said("My favourite is")],
        "chosen": [said(" blue.")],
        "rejected": [said(" red.")],
    }
    renderer = ChatRenderer(byte_level(KINDS["turns"]))
    chosen, rejected = rendered(renderer, row)
    assert chosen["prompt_text"] == rejected["prompt_text"]
    assert chosen["prompt_text"].endswith("<|im_start|>assistant\nMy favourite is")
    assert chosen["completion_text"] == " blue.<|im_end|>"
    asked: list[Any] = row["prompt"]
    assert renderer.prompt_text(asked) == chosen["prompt_text"]


def test_of_several_turns_the_assistants_tokens_alone_count() -> None:
    renderer = ChatRenderer(byte_level(KINDS["calls with arguments as text"]))
    row = {
        "prompt": [ASKED],
        "completion": [
            said("", tool_calls=[CALL]),
            {"role": "tool", "content": "wet"},
            said("It is wet."),
        ],
    }
    (record,) = rendered(renderer, row)
    trained = [i for i, t in zip(record["completion_ids"], record["trained"], strict=True) if t]
    text = renderer.tokenizer.decode(trained)
    assert text.endswith("</tool_call><|im_end|>It is wet.<|im_end|>")
    assert "wet<|im_end|>\n<|im_start|>assistant" in record["completion_text"]


def test_sentence_piece_puts_no_space_where_a_completion_goes_on() -> None:
    template = (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content + eos_token }}\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    renderer = ChatRenderer(sentence_piece(template))
    (record,) = rendered(renderer, {"messages": [ASKED, said("yes ok")]})
    whole = renderer.tokenizer.encode(
        record["prompt_text"] + record["completion_text"], add_special_tokens=False
    )
    assert record["prompt_ids"] + record["completion_ids"] == whole
    assert record["message"]["content"] == "yes ok"


def test_a_template_without_its_tokens_is_refused() -> None:
    with pytest.raises(ConfigError, match="no token of the tokenizer"):
        ChatRenderer(byte_level(KINDS["turns"], marks=[]))


def test_a_template_that_reads_the_clock_is_told_the_day() -> None:
    tokenizer = byte_level("{{ strftime_now('%d %b %Y') }}" + KINDS["turns"])
    new_year = ChatRenderer(tokenizer, today=date(2026, 1, 1))
    later = ChatRenderer(tokenizer, today=date(2026, 5, 1))
    user: list[Any] = [ASKED]
    assert new_year.prompt_text(user).startswith("01 Jan 2026")
    assert new_year.fingerprint != later.fingerprint
    assert new_year.fingerprint == ChatRenderer(tokenizer, today=date(2026, 1, 1)).fingerprint


def test_every_conversation_has_its_line_whatever_is_wrong_with_it() -> None:
    renderer = ChatRenderer(byte_level(KINDS["turns"]))
    lines = [
        b"{",
        b"[]",
        b"{}",
        b'{"messages": [{"role": "user", "content": [{"type": "image", "image": "x"}]}]}',
        b'{"messages": [{"role": "user", "content": "hi"}]}',
        b'{"prompt": "<|im_start|>user\\nhi<|im_end|>\\n<|im_start|>assistant\\n", "chosen": "a"}',
        b'{"messages": 3}',
        b'{"messages": [], "tools": "{"}',
    ]
    for line in lines:
        records = list(rendered_line(line, renderer))
        assert [set(record) for record in records] == [{"error"}], line


@pytest.mark.parametrize("special", ["usual", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_thoughts_can_be_left_out_of_what_is_trained(kind: str, special: Any) -> None:
    renderer = ChatRenderer(byte_level(KINDS[kind], special=special), today=date(2026, 1, 1))
    thought, plain = CASES["thinking"][-1], CASES["single turn"][-1]
    (record,) = rendered(renderer, {"messages": [ASKED, thought]})
    if "error" in record:
        return
    ids = renderer.without_thoughts(record["prompt_ids"], record["completion_ids"])
    assert [i if i >= 0 else ~i for i in ids] == record["completion_ids"]
    trained = renderer.in_place.text([], [i for i in ids if i >= 0])
    assert "easy" not in trained
    assert "There." in trained
    assert ids[-1] == record["end_id"]
    (record,) = rendered(renderer, {"messages": [ASKED, plain]})
    whole = record["completion_ids"]
    assert renderer.without_thoughts(record["prompt_ids"], whole) == whole
