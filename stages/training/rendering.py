"""Rows of tables to tokens, with the checks that all training stages share."""

from collections.abc import Mapping
from typing import Any

from evals.models.rendering import ChatRenderer, RenderedCompletion
from schemas.labels import Messages
from stages.training.screening import Rejects, has_text


def render_or_reject(
    renderer: ChatRenderer,
    row: Mapping[str, Any],
    prompt: Messages,
    completion: Messages,
    limit: int | None,
    rejects: Rejects,
) -> RenderedCompletion | None:
    """Tokens of a row's completion, or None after the row went to `rejects`.

    Reasons: empty_prompt, empty_completion, chat_template_refused, too_long.
    """
    from jinja2 import TemplateError

    if not has_text(completion):
        rejects.add(row, "empty_completion", "the completion has no text")
        return None
    if not has_text(prompt):
        rejects.add(row, "empty_prompt", "the prompt has no text")
        return None
    try:
        rendered = renderer.render(prompt, completion)
    except TemplateError as error:
        rejects.add(row, "chat_template_refused", str(error))
        return None
    length = len(rendered.prompt_ids) + len(rendered.completion_ids)
    if limit is not None and length > limit:
        rejects.add(row, "too_long", f"{length} tokens, at most {limit}")
        return None
    return rendered
