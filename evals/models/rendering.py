"""Conversations to tokens, with one rule for training, sampling and judging.

The tokenizer's chat template is the only layout there is. A base model without one is given a
template by name, and the template is saved with every checkpoint made from it, so that whoever
opens the checkpoint (vLLM, transformers, a chat program) renders the same.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from schemas.errors import ConfigError, DataError
from schemas.labels import Message, Messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# `eos_token` ends every completion, so that a policy learns to stop and a sampler knows when.
CHAT_TEMPLATES = {
    "chatml": (
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "role_colon": (
        "{{ bos_token if bos_token }}"
        "{% for message in messages %}"
        "{{ message['role'] | capitalize + ': ' + message['content'] }}"
        "{{ eos_token if message['role'] == 'assistant' and loop.last else '\n\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    ),
}


@dataclass(frozen=True)
class RenderedCompletion:
    """Token ids of a prompt (with the generation header) and of a completion (with its end)."""

    prompt_ids: list[int]
    completion_ids: list[int]


class ChatRenderer:
    """Renders conversations with a tokenizer's chat template.

    Prompt and completion are tokenised separately, at the exact point where a sampler takes over,
    so that training scores the very tokens that sampling produces. Text that imitates special
    tokens stays text: content is neutralised before it is rendered.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        """Raises ConfigError where the tokenizer has no chat template or no end token."""
        if not tokenizer.chat_template:
            raise ConfigError(
                f"{tokenizer.name_or_path}: the tokenizer has no chat template; set chat_template "
                f"beside the model to one of {', '.join(CHAT_TEMPLATES)}"
            )
        if tokenizer.eos_token_id is None:
            raise ConfigError(f"{tokenizer.name_or_path}: the tokenizer has no end-of-text token")
        self.tokenizer = tokenizer

    @cached_property
    def end_ids(self) -> list[int]:
        """Tokens that end an assistant turn: what the template closes it with, and the eos token.

        The first one is the token that training adds to every completion.
        """
        probe: list[Message] = [{"role": "user", "content": "x"}]
        closed = self._text([*probe, {"role": "assistant", "content": "y"}], header=False)
        tail = closed.rpartition("y")[2]
        ids = self._encode(tail)
        special = [i for i in ids if i in set(self.tokenizer.all_special_ids)]
        first = special[:1] or [int(self.tokenizer.eos_token_id)]
        return list(dict.fromkeys([*first, int(self.tokenizer.eos_token_id)]))

    @cached_property
    def _special_pattern(self) -> re.Pattern[str] | None:
        tokens = sorted(
            (t for t in self.tokenizer.get_added_vocab() if len(t) > 1), key=len, reverse=True
        )
        return re.compile("|".join(map(re.escape, tokens))) if tokens else None

    def neutralise(self, text: str) -> str:
        """Break every special token that the text spells out, visibly and by one character.

        A word joiner (U+2060) after the first character keeps the text readable and stops the
        tokenizer from taking it for the token.
        """
        if self._special_pattern is None:
            return text
        return self._special_pattern.sub(lambda m: m[0][0] + "\u2060" + m[0][1:], text)

    def prompt_ids(self, prompt: Messages) -> list[int]:
        """Token ids of a conversation up to where the assistant begins to write."""
        return self._encode(self._text(self._clean(prompt), header=True))

    def render(self, prompt: Messages, completion: Messages) -> RenderedCompletion:
        """Token ids of prompt and completion; the completion ends with the end-of-turn token.

        Raises:
            DataError: the chat template does not continue its own generation prompt, so the two
                cannot be told apart.
        """
        prompt, completion = self._clean(prompt), self._clean(completion)
        head = self._text(prompt, header=True)
        whole = self._text([*prompt, *completion], header=False)
        if not whole.startswith(head):
            raise DataError(
                "the chat template renders a finished turn differently from a generation prompt; "
                "use another chat_template"
            )
        ids = self._encode(whole[len(head) :])
        end = self.end_ids[0]
        while ids and ids[-1] != end and end in ids:
            ids.pop()
        if not ids or ids[-1] != end:
            ids.append(end)
        return RenderedCompletion(self._encode(head), ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of sampled tokens without special tokens, and without the header's space."""
        text = str(self.tokenizer.decode(list(ids), skip_special_tokens=True))
        return text[1:] if self._header_space and text.startswith(" ") else text

    @cached_property
    def _header_space(self) -> bool:
        probe: list[Message] = [{"role": "user", "content": "x"}]
        head = self._text(probe, header=True)
        whole = self._text([*probe, {"role": "assistant", "content": "y"}], header=False)
        return whole.startswith(head + " y")

    def _clean(self, messages: Messages) -> list[Message]:
        return [{"role": m["role"], "content": self.neutralise(m["content"])} for m in messages]

    def _text(self, messages: Messages, *, header: bool) -> str:
        text = self.tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=header
        )
        return str(text)

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))
