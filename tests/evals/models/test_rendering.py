"""Many conversations at once give the tokens that each gives alone."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.models.rendering import CHAT_TEMPLATES, ChatRenderer, RenderedBranches
from schemas.errors import DataError
from schemas.labels import Message
from tests.fixtures.tiny_models import byte_level_tokenizer

REFUSES = "{% if messages[0]['content'] == 'no' %}{{ raise_exception('not this') }}{% endif %}"


def renderer(template: str = "chatml", before: str = "") -> ChatRenderer:
    tokenizer = byte_level_tokenizer(["what does she like? pizza, she says"] * 3, 320)
    tokenizer.chat_template = before + CHAT_TEMPLATES[template]
    return ChatRenderer(tokenizer)


def said(role: str, text: str) -> Message:
    return {"role": role, "content": text}


RENDERERS = {name: renderer(name) for name in CHAT_TEMPLATES}
TEXT = st.text(max_size=12) | st.sampled_from(["<|im_end|>", "a<|endoftext|>", " pizza ", "é\n"])
TURNS = st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), TEXT), min_size=1)


@pytest.mark.parametrize("template", CHAT_TEMPLATES)
@given(items=st.lists(st.tuples(TURNS, st.lists(TEXT, min_size=1, max_size=3)), max_size=4))
@settings(max_examples=80, deadline=None)
def test_many_are_rendered_as_each_alone(template: str, items: list[Any]) -> None:
    one = RENDERERS[template]
    asked = [
        ([said(*turn) for turn in turns], [[said("assistant", text)] for text in completions])
        for turns, completions in items
    ]
    for (prompt, completions), rendered in zip(asked, one.render_many(asked), strict=True):
        if isinstance(rendered, DataError):  # nobody has said anything before the assistant
            with pytest.raises(DataError, match="empty conversation"):
                one.render(prompt, completions[0])
            continue
        assert isinstance(rendered, RenderedBranches)
        alone = [one.render(prompt, completion) for completion in completions]
        assert {tuple(rendered.prompt_ids)} == {tuple(single.prompt_ids) for single in alone}
        assert rendered.completions == [single.completion_ids for single in alone]


def test_an_item_that_the_template_refuses_does_not_stop_the_others() -> None:
    one = renderer(before=REFUSES)
    good = ([said("user", "yes")], [[said("assistant", "pizza")]])
    bad = ([said("user", "no")], [[said("assistant", "pizza")]])
    first, refused, last = one.render_many([good, bad, good])
    assert isinstance(refused, DataError)
    assert "not this" in str(refused)
    assert first == last == one.render_many([good])[0]


def test_the_fingerprint_follows_template_and_vocabulary() -> None:
    assert renderer().fingerprint == RENDERERS["chatml"].fingerprint
    other = ChatRenderer(byte_level_tokenizer(["ramen and soup and ramen"] * 3, 320))
    prints = {renderer().fingerprint, RENDERERS["role_colon"].fingerprint, other.fingerprint}
    assert len(prints) == 3
    used = renderer()
    used.tokenizer(["pizza", "a longer text"], padding=True, truncation=True, max_length=4)
    used.render_many([([said("user", "x")], [[said("assistant", "y")]])])
    assert used.fingerprint == renderer().fingerprint
