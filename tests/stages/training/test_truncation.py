"""Items that are too long: rejected, or made to fit as is declared, and counted."""

from typing import Any

import pytest

from evals.models.rendering import ChatRenderer
from schemas.labels import Message
from stages.training.config import Truncation
from stages.training.data.rows.rejects import Rejects
from stages.training.data.rows.render_rows import Candidate, token_items
from stages.training.data.rows.token_store import TokenItem
from tests.fixtures.tiny_models import byte_level_tokenizer

RENDERER = ChatRenderer(byte_level_tokenizer())


def turn(role: str, content: str, **more: Any) -> Message:
    return {"role": role, "content": content, **more}  # type: ignore[typeddict-item]


PROMPT = [
    turn("system", "sys"),
    turn("user", "a" * 40),
    turn("assistant", "b" * 40),
    turn("user", "c" * 10),
]
CHOSEN, REJECTED = [turn("assistant", "d" * 30)], [turn("assistant", "e" * 5)]


def made(
    limit: int, prompt: Any = PROMPT, sides: Any = (CHOSEN, REJECTED), **how: Any
) -> tuple[list[TokenItem], Rejects]:
    row = {"prompt": prompt, "split": "train", "file": "f", "row": 0}
    rejects = Rejects("preference_pairs")
    candidates = [Candidate("p", row, sides)]
    items = list(token_items(RENDERER, candidates, limit, rejects, Truncation(**how)))
    return items, rejects


WHOLE = made(1000)[0][0].parts
PROMPT_TOKENS, LONGEST = len(WHOLE[0]), len(WHOLE[0]) + len(WHOLE[1])
END = RENDERER.end_ids[0]


def test_what_fits_is_left_alone_whatever_is_declared() -> None:
    for how in ("reject", "keep_start", "keep_end", "drop_turns", "cut_thinking"):
        items, rejects = made(LONGEST, how=how)
        assert items[0].parts == WHOLE
        assert rejects.counts() == {"rejects": 0}


def test_too_long_is_rejected_by_default() -> None:
    items, rejects = made(LONGEST - 1)
    assert not items
    assert rejects.counts() == {"rejects": 1, "rejects/too_long": 1}


@pytest.mark.parametrize("train_end", [False, True])
def test_keep_start_cuts_the_longer_completion_and_its_end(train_end: bool) -> None:
    items, rejects = made(PROMPT_TOKENS + 10, how="keep_start", train_end=train_end)
    prompt, chosen, rejected = items[0].parts
    assert prompt == WHOLE[0]
    assert rejected == WHOLE[2]
    assert len(chosen) == 10
    assert chosen[:9] == WHOLE[1][:9]
    assert (chosen[-1] == END) == train_end
    assert rejects.counts() == {"rejects": 0, "cut": 1, "cut/completion": 1}


def test_keep_end_cuts_the_beginning_of_the_prompt() -> None:
    items, rejects = made(LONGEST - 7, how="keep_end")
    assert items[0].parts == [WHOLE[0][7:], *WHOLE[1:]]
    assert rejects.counts()["cut/prompt"] == 1


def test_a_declared_part_of_the_prompt_stays_and_completions_are_cut_to_the_rest() -> None:
    """TRL's max_prompt_length: the prompt's last tokens first, then both completions' starts."""
    kept = LONGEST - len(WHOLE[1])  # more than the prompt has: only completions give way
    items, _ = made(kept + 10, how="keep_end", prompt_tokens=kept)
    assert items[0].parts == [WHOLE[0], WHOLE[1][:10], WHOLE[2][:10]]
    items, rejects = made(20 + len(WHOLE[1]), how="keep_end", prompt_tokens=20)
    assert items[0].parts == [WHOLE[0][-20:], *WHOLE[1:]]
    assert rejects.counts()["cut/prompt"] == 1
    items, rejects = made(40, how="keep_end", prompt_tokens=25)
    assert items[0].parts == [WHOLE[0][-25:], WHOLE[1][:15], WHOLE[2][:15]]
    assert rejects.counts() == {"rejects": 0, "cut": 1, "cut/both": 1}
    with pytest.raises(ValueError, match="prompt_tokens is of how = keep_end"):
        Truncation(how="keep_start", prompt_tokens=5)


def test_dropping_turns_keeps_the_system_and_begins_with_a_user() -> None:
    items, rejects = made(LONGEST - 20, how="drop_turns")
    expected = made(1000, [PROMPT[0], PROMPT[3]])[0][0].parts
    assert items[0].parts == expected
    assert rejects.counts()["cut/turns"] == 1


def test_what_cannot_be_made_to_fit_is_rejected() -> None:
    for how, limit in (("keep_start", PROMPT_TOKENS), ("keep_end", 20), ("drop_turns", 30)):
        items, rejects = made(limit, how=how)
        assert not items
        assert rejects.counts()["rejects"] == 1
        assert not rejects.cuts


def test_completions_that_are_the_same_once_cut_are_rejected() -> None:
    sides = ([turn("assistant", "same start, then a")], [turn("assistant", "same start, then b")])
    rendered = made(1000, sides=sides)[0][0].parts
    items, rejects = made(len(rendered[0]) + 5, sides=sides, how="keep_start")
    assert not items
    assert rejects.counts() == {"rejects": 1, "rejects/identical_completions": 1}


def test_answers_alone_are_trained_where_reasoning_is_left_out() -> None:
    thought = [turn("assistant", "<think>\nhm\n</think>\n\nyes")]
    row = {"prompt": PROMPT, "split": "train", "file": "f", "row": 0}
    cut = [turn("assistant", "<think>\nhm")]
    rejects = Rejects("preference_pairs")
    candidates = [Candidate("p", row, (thought, CHOSEN)), Candidate("q", row, (thought, cut))]
    whole, _ = token_items(RENDERER, candidates, None, rejects)
    (item,) = token_items(RENDERER, candidates, None, rejects, reasoning=False)
    assert [i if i >= 0 else ~i for i in item.parts[1]] == whole.parts[1]
    assert RENDERER.tokenizer.decode([i for i in item.parts[1] if i >= 0]) == "yes<|im_end|>"
    assert item.parts[2] == whole.parts[2]
    assert rejects.counts() == {"rejects": 1, "rejects/no_answer": 1}
