"""The door to `evals.models.chat`: conversations to tokens and back."""

from evals.models.chat.renderer import ChatRenderer, RenderedBranches, RenderedCompletion
from evals.models.chat.templates.named_templates import CHAT_TEMPLATES

__all__ = ["CHAT_TEMPLATES", "ChatRenderer", "RenderedBranches", "RenderedCompletion"]
