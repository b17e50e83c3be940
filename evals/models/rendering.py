"""The door to `evals.models.chat`: conversations to tokens and back."""

from evals.models.chat.named_templates import CHAT_TEMPLATES
from evals.models.chat.renderer import ChatRenderer, RenderedBranches, RenderedCompletion

__all__ = ["CHAT_TEMPLATES", "ChatRenderer", "RenderedBranches", "RenderedCompletion"]
