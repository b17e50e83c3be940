"""Tokens between an assistant's turns are read by a model, and no loss is taken on them."""

from pathlib import Path

import torch

from evals.models.chat.read_only import plain, scored, with_read_only
from evals.models.chat.renderer import ChatRenderer, RenderedBranches, RenderedCompletion
from evals.models.checkpoints import ModelSource, load_causal_lm
from evals.models.logps import completion_logps
from tests.fixtures.chat_tokenizers import byte_level
from tests.fixtures.tiny_models import tiny_llama

OPENS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)


def test_ids_come_back() -> None:
    ids = with_read_only([0, 5, 7], [False, True, True])
    assert ids == [-1, 5, 7]
    assert plain(ids).tolist() == [0, 5, 7]
    assert scored(ids) == 2


def test_what_is_read_only_changes_what_follows_and_has_no_score(tmp_path: Path) -> None:
    model = load_causal_lm(ModelSource(path=str(tiny_llama(tmp_path))), torch.device("cpu"))
    prompt, read, said = [5, 6, 7], [8, 9], [10, 11]
    whole = RenderedCompletion([*prompt, *read], said)
    marked = RenderedCompletion(prompt, with_read_only([*read, *said], [False] * 2 + [True] * 2))
    with torch.no_grad():
        expected, found = (completion_logps(model, [one]) for one in (whole, marked))
    assert torch.allclose(expected, found, atol=1e-6)


def test_a_pair_of_which_one_side_thinks_shares_the_prompt_that_both_have() -> None:
    renderer = ChatRenderer(byte_level(OPENS))
    said = [{"role": "assistant", "content": "yes"}]
    mused = [{"role": "assistant", "content": "yes", "reasoning": "easy"}]
    item = ([{"role": "user", "content": "ok?"}], [said, mused])
    (both,) = renderer.render_many([item])  # type: ignore[list-item]
    assert isinstance(both, RenderedBranches)
    for completion, branch in zip((said, mused), both.completions, strict=True):
        alone = renderer.render(item[0], completion)  # type: ignore[arg-type]
        assert [*both.prompt_ids, *plain(branch)] == [*alone.prompt_ids, *alone.completion_ids]
        assert scored(branch) == len(alone.completion_ids)
