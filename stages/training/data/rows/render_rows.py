"""Rows of tables to tokens, in batches, with the checks that all training stages share."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from evals.models.chat.read_only import scored
from evals.models.rendering import ChatRenderer, RenderedBranches
from evals.models.samplers.prompts import asked_with
from schemas.errors import DataError
from schemas.labels import Messages
from stages.training.config import Truncation
from stages.training.data.rows.rejects import Rejects, has_text
from stages.training.data.rows.token_store import TokenItem
from stages.training.data.rows.truncation import fitted, is_too_long

_IDENTICAL = ("identical_completions", "chosen and rejected are the same tokens")
_NO_ANSWER = ("no_answer", "a completion has nothing but thoughts, which are not trained")

DRAWN, DRAWN_OTHERWISE = "drawn", "drawn_otherwise"
"""Numbers beside an item: completions trained as they were drawn, and of these those whose text
would have been rendered to other tokens."""

NEUTRALISED = "neutralised"
"""A number beside an item: places where its text imitated the template's structure."""


_TEMPLATE = ("tools", "chat_template_kwargs")


@dataclass(frozen=True)
class Candidate:
    """A row that may be trained on: the completions of its prompt, and its id as `key`.

    `drawn` are the tokens that a sampler drew them as. They are trained as they are where the row's
    `tokens_of` is the renderer's own fingerprint; else the texts are rendered.
    """

    key: str
    row: Mapping[str, Any]
    completions: Sequence[Messages]
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    drawn: Sequence[Sequence[int]] | None = None


def token_items(
    renderer: ChatRenderer,
    candidates: Sequence[Candidate],
    limit: int | None,
    rejects: Rejects,
    truncation: Truncation | None = None,
    *,
    reasoning: bool = True,
) -> Iterator[TokenItem]:
    """The candidates that can be used, in tokens; the others go to `rejects`.

    Reasons: empty_completion, empty_prompt, chat_template_refused, prompt_too_long (nothing of the
    completion would be left), too_long, identical_completions, and no_answer: where `reasoning` is
    not to be trained, a completion that has nothing else.
    """
    readable = [one for one in candidates if _has_texts(one, rejects)]
    items = renderer.render_many(
        [(one.row["prompt"], one.completions) for one in readable],
        [asked_with(renderer, *(one.row.get(n) for n in _TEMPLATE)) for one in readable],
    )
    for one, as_text in zip(readable, items, strict=True):
        drawn, counted = _as_drawn(one, as_text, renderer)
        rendered, cut = _within(renderer, one, drawn, limit, truncation or Truncation())
        problem = _problem(rendered, limit)
        if problem is None and not reasoning:
            assert isinstance(rendered, RenderedBranches)
            rendered = _answers_alone(renderer, rendered)
            problem = None if all(map(scored, rendered.completions)) else _NO_ANSWER
        if problem is None:
            assert isinstance(rendered, RenderedBranches)
            rejects.cuts.update([cut] if cut else [])
            parts = [rendered.prompt_ids, *rendered.completions]
            counted[NEUTRALISED] = float(rendered.neutralised)
            yield TokenItem(one.key, one.row["split"], parts, {**one.numbers, **counted})
        else:
            rejects.add(one.row, *problem)


def _within(
    renderer: ChatRenderer,
    one: Candidate,
    rendered: RenderedBranches | DataError,
    limit: int | None,
    truncation: Truncation,
) -> tuple[RenderedBranches | DataError, str | None]:
    """The item made to fit as is declared, and what was cut of it; as it is where it does not."""
    if limit is None or isinstance(rendered, DataError) or not is_too_long(rendered, limit):
        return rendered, None
    if _problem(rendered, None) not in (None, _IDENTICAL):
        return rendered, None
    made = fitted(renderer, rendered, one.row["prompt"], one.completions, limit, truncation)
    return (rendered, None) if made is None else made


def _as_drawn(
    one: Candidate, rendered: RenderedBranches | DataError, renderer: ChatRenderer
) -> tuple[RenderedBranches | DataError, dict[str, float]]:
    """The branches in the tokens that were drawn, and how many of these the text has not.

    A sample that ended by length has no end token, and none is trained.
    """
    of_here = one.row.get("tokens_of") == renderer.fingerprint
    if one.drawn is None or not of_here or not isinstance(rendered, RenderedBranches):
        return rendered, {}
    drawn = [list(ids) for ids in one.drawn]
    asked = asked_with(renderer, *(one.row.get(n) for n in _TEMPLATE))
    prompt = renderer.prompt_ids(one.row["prompt"], asked)
    shared = len(prompt) - len(rendered.prompt_ids)  # what the texts begin with, read only
    cut = [ids[-1] not in renderer.end_ids for ids in drawn]
    texts = [
        ids[shared:-1] if c else ids[shared:]
        for ids, c in zip(rendered.completions, cut, strict=True)
    ]
    otherwise = sum(a != b for a, b in zip(drawn, texts, strict=True))
    counts = {DRAWN: float(len(drawn)), DRAWN_OTHERWISE: float(otherwise)}
    return replace(rendered, prompt_ids=prompt, completions=drawn), counts


def _answers_alone(renderer: ChatRenderer, rendered: RenderedBranches) -> RenderedBranches:
    prompt = rendered.prompt_ids
    trained = [renderer.without_thoughts(prompt, ids) for ids in rendered.completions]
    return replace(rendered, completions=trained)


def _has_texts(one: Candidate, rejects: Rejects) -> bool:
    if not all(map(has_text, one.completions)):
        rejects.add(one.row, "empty_completion", "a completion has no text")
    elif not has_text(one.row["prompt"]):
        rejects.add(one.row, "empty_prompt", "the prompt has no text")
    else:
        return True
    return False


def _problem(rendered: RenderedBranches | DataError, limit: int | None) -> tuple[str, str] | None:
    """Reason and detail, or None where the item can be used."""
    if not isinstance(rendered, RenderedBranches):
        return "chat_template_refused", str(rendered)
    prompt, longest = len(rendered.prompt_ids), max(map(len, rendered.completions))
    if limit is not None and prompt >= limit:
        detail = f"the prompt alone has {prompt} tokens, at most {limit}: no completion would fit"
        return "prompt_too_long", detail
    if limit is not None and prompt + longest > limit:
        return "too_long", f"{prompt + longest} tokens, at most {limit}"
    if len(set(map(tuple, rendered.completions))) < len(rendered.completions):
        return _IDENTICAL
    return None
