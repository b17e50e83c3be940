"""A judge's prompt and the one token it answers with."""

from collections.abc import Callable

from transformers import PreTrainedTokenizerBase

from evals.judges.layout import comparison_chat
from evals.judges.scoring.first_differences import first_differences
from evals.models.chat.renderer import ChatRenderer, RenderedCompletion
from evals.models.chat.templates.template import TemplateRefusal
from schemas.errors import ConfigError
from schemas.ids import content_id
from schemas.labels import Comparison, Message, Messages, Preference


class LabelTokens:
    """Comparisons to tokens, for training and for scoring alike.

    What the tokens of all three labels share at their beginning (a space, say) belongs to the
    prompt; `ids` are the first tokens that differ. A training example is a prompt and one of them,
    so it is exactly what scoring looks at.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        chat: Callable[[Comparison], list[Message]] = comparison_chat,
        prefill: str = "",
    ) -> None:
        """`chat` shows a comparison to the model; `prefill` is what its answer begins with.

        Raises:
            ConfigError: the first tokens of the labels are not distinct.
        """
        self._renderer = ChatRenderer(tokenizer)
        self._chat = chat
        self._prefill = prefill
        told_apart = first_differences({label: self._spell(label) for label in Preference})
        if told_apart is None:
            raise ConfigError(
                f"{tokenizer.name_or_path}: the labels {', '.join(Preference)} do not begin with "
                "three different tokens, so one token cannot tell them apart; use a model with "
                "another tokenizer"
            )
        self.shared, self.ids = told_apart

    @property
    def fingerprint(self) -> str:
        """32 hex digits of all that tokens depend on, but for how a comparison is shown."""
        return content_id(
            "label-tokens", self._renderer.fingerprint, str(self.shared), str(self.ids)
        )

    def prompt_ids(self, comparison: Comparison) -> list[int]:
        """Tokens up to where the label's token follows, as the template writes an answer.

        What it writes before one (the end of a thought, say) belongs to them.

        Raises:
            ConfigError: the chat template refuses the conversation.
        """
        rendered = self._render(self._chat(comparison), self._answer(Preference.A))
        return [*rendered.prompt_ids, *rendered.completion_ids[: len(self.shared)]]

    def _spell(self, label: Preference) -> list[int]:
        question: Message = {"role": "user", "content": "x"}
        return self._render([question], self._answer(label)).completion_ids

    def _answer(self, label: Preference) -> Messages:
        return [{"role": "assistant", "content": f"{self._prefill}{label.value}"}]

    def _render(self, chat: Messages, answer: Messages) -> RenderedCompletion:
        try:
            return self._renderer.render(chat, answer)
        except TemplateRefusal as error:
            raise ConfigError(
                f"{self._renderer.tokenizer.name_or_path}: the chat template refuses a comparison "
                f"({error}); set judge.section_role to user, or chat_template beside the model"
            ) from error
