"""Prompts under other names, messages that are more than a role and a text: nothing vanishes."""

import json
from collections.abc import Callable
from typing import Any

import duckdb
import polars as pl
import pytest

from schemas.ids import prompt_id, turns_id
from tests.fixtures.ingest import Ingest

Write = Callable[..., str]
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
KEPT = {"function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def read(ingest: Ingest, path: str, **settings: Any) -> Any:
    source = {"kind": "jsonl", "path": path}
    return ingest(source, sides="as_given", near_duplicates={"policy": "off"}, **settings)


SYSTEM = {"role": "system", "content": "In French."}


@pytest.mark.parametrize(
    ("said", "prompt"),
    [
        ({"question": "Q?"}, [user("Q?")]),
        ({"question": "Q?", "system": "In French."}, [SYSTEM, user("Q?")]),
        ({"prompt": "Q?", "system": ""}, [user("Q?")]),
        ({"prompt": "Q?", "system_prompt": "In French."}, [SYSTEM, user("Q?")]),
        ({"instruction": "Translate.", "input": "hi"}, [user("Translate.\nhi")]),
        ({"messages": [user("Q?")]}, [user("Q?")]),
        ({"conversations": [{"from": "human", "value": "Q?"}]}, [user("Q?")]),
        ({"prompt": "Q?", "history": [["a", "b"]]}, [user("a"), assistant("b"), user("Q?")]),
        ({"prompt": "\n\nHuman: Q?\n\nAssistant:"}, [user("Q?")]),
        ({"prompt": json.dumps([user("Q?")])}, [user("Q?")]),
        ({"prompt": [user("Q?"), assistant("It")]}, [user("Q?"), assistant("It")]),
    ],
)
def test_the_prompt_is_found_where_it_stands(
    ingest: Ingest, jsonl: Write, said: dict[str, Any], prompt: Any
) -> None:
    # The answers begin alike, which must not be taken for the prompt.
    path = jsonl([{**said, "chosen": "The answer is yes", "rejected": "The answer is no"}])
    [row] = read(ingest, path).table("comparisons")
    assert row["prompt"] == prompt
    assert row["prompt_id"] == prompt_id(prompt)
    assert row["completion_a"] == [assistant("The answer is yes")]


def test_a_rendered_prompt_is_refused(ingest: Ingest, jsonl: Write) -> None:
    rendered = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    rows = [{"prompt": p, "chosen": "yes", "rejected": "no"} for p in (rendered, "plain")]
    assert read(ingest, jsonl(rows)).reasons == ["rendered_text"]


def test_tools_calls_and_thoughts_are_kept_and_tell_answers_apart(
    ingest: Ingest, jsonl: Write
) -> None:
    result = {"role": "tool", "name": "weather", "content": "4 C"}
    asked = [user("Oslo?"), assistant(None, tool_calls=[CALL]), result]
    other = {"type": "function", "function": {"name": "delete_all", "arguments": {}}}
    good, bad = [assistant("4.")], [assistant("?")]
    several = [assistant("", tool_calls=[CALL]), result, assistant("4 degrees.")]
    rows = [
        {
            "tools": TOOLS,
            "prompt": asked,
            "chosen": [assistant("4.")],
            "rejected": [assistant("?")],
        },
        {"prompt": asked, "chosen": good, "rejected": bad},
        {
            "prompt": "Rome?",
            "chosen": [assistant("Let me look.", tool_calls=[CALL])],
            "rejected": [assistant("Let me look.", tool_calls=[other])],
        },
        {
            "prompt": "2+2?",
            "chosen": [assistant("4", reasoning_content="two and two")],
            "rejected": "<think>hm</think>4",
            "chat_template_kwargs": {"enable_thinking": True},
        },
        {"chosen": [user("Bonn?"), *several], "rejected": [user("Bonn?"), assistant("No idea.")]},
        {"prompt": "x", "chosen": [assistant("a", weight=1)], "rejected": "b"},
    ]
    done = read(ingest, jsonl(rows))
    assert done.reasons == []
    found = {row["row"]: row for row in done.table("comparisons")}
    assert found[0]["prompt"][1] == assistant("", tool_calls=[KEPT])
    assert found[0]["prompt"][2] == result
    assert json.loads(found[0]["tools"]) == TOOLS
    assert found[0]["prompt_id"] != found[1]["prompt_id"]
    assert found[1]["prompt_id"] == prompt_id(found[1]["prompt"])
    assert found[2]["completion_a"] != found[2]["completion_b"]
    assert found[3]["completion_a"] == [assistant("4", reasoning="two and two")]
    assert found[3]["completion_b"] == [assistant("4", reasoning="hm")]
    assert json.loads(found[3]["chat_template_kwargs"]) == {"enable_thinking": True}
    kept = [assistant("", tool_calls=[KEPT]), result, assistant("4 degrees.")]
    assert (found[4]["prompt"], found[4]["completion_a"]) == ([user("Bonn?")], kept)
    assert json.loads(found[5]["completion_a"][0]["extra"]) == {"weight": 1}
    assert done.counts["rows_with_unread_keys"] == 1
    path = done.output / "comparisons.parquet"
    assert pl.read_parquet(path).height == 6
    query = f"select prompt[2].tool_calls[1].function.name from '{path}' where row = 0"
    assert duckdb.connect().execute(query).fetchall() == [("weather",)]
    shown = done.table("demonstrations")
    assert {turns_id(r["completion"]) for r in shown} <= {
        turns_id(r["completion_a"]) for r in found.values()
    }


@pytest.mark.parametrize(
    "content",
    [[{"type": "image_url", "image_url": {"url": "x"}}], [{"type": "input_audio", "data": "x"}]],
)
def test_pictures_and_sound_are_refused_in_a_sentence(
    ingest: Ingest, jsonl: Write, content: Any
) -> None:
    rows = [
        {"prompt": [{"role": "user", "content": content}], "chosen": "a", "rejected": "b"},
        {"prompt": "Q?", "chosen": "a", "rejected": "b"},
    ]
    [reject] = read(ingest, jsonl(rows)).table("rejects")
    assert reject["reason"] == "not_text"
    assert "prefline reads text alone" in reject["detail"]
