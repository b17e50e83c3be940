"""Conversations to tokens, with one rule for training, sampling and judging.

The tokenizer's chat template is the only layout there is. A base model without one is given a
template by name, and the template is saved with every checkpoint made from it, so that whoever
opens the checkpoint (vLLM, transformers, a chat program) renders the same.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from schemas.errors import ConfigError, DataError
from schemas.ids import content_id, file_sha256
from schemas.labels import Message, Messages

if TYPE_CHECKING:
    from jinja2 import TemplateError
    from transformers import PreTrainedTokenizerBase

# To be raised when the same conversation gives other tokens than before.
_RULE = "1"

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


@dataclass(frozen=True)
class RenderedBranches:
    """Token ids of a prompt (with the generation header) and of each completion (with its end)."""

    prompt_ids: list[int]
    completions: list[list[int]]


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
                f"{tokenizer.name_or_path}: the tokenizer has no chat template; name one beside "
                "the model's path, like model = {path = ..., chat_template = 'chatml'} (there are "
                f"{' and '.join(CHAT_TEMPLATES)}), or save chat_template.jinja into its folder"
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
        head, tail = self._texts(prompt, [completion])
        return RenderedCompletion(self._encode(head), self._ended(self._encode(tail)))

    def render_many(
        self, items: Sequence[tuple[Messages, Sequence[Messages]]]
    ) -> "list[RenderedBranches | TemplateError | DataError]":
        """What `render` gives, for many prompts with their completions at once.

        Each prompt is rendered once, and all texts go through the tokenizer together. An item
        for which `render` would raise has the error in its place.
        """
        from jinja2 import TemplateError

        texts: list[str] = []
        spans: list[TemplateError | DataError | range] = []
        for prompt, completions in items:
            try:
                more = self._texts(prompt, completions)
            except (TemplateError, DataError) as error:
                spans.append(error)
                continue
            spans.append(range(len(texts), len(texts) + len(more)))
            texts += more
        ids = self._encode_many(texts)
        return [
            RenderedBranches(ids[span[0]], [self._ended(ids[i]) for i in span[1:]])
            if isinstance(span, range)
            else span
            for span in spans
        ]

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits of all that the tokens of a text depend on: tokenizer and chat template."""
        tokenizer = self.tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        state = [backend.to_str()] if backend else _saved(tokenizer)
        template = json.dumps(tokenizer.chat_template, sort_keys=True)
        special = json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str)
        return content_id("rendering", _RULE, type(tokenizer).__name__, template, special, *state)

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

    def _texts(self, prompt: Messages, completions: Sequence[Messages]) -> list[str]:
        """The text up to where the assistant writes, and how it goes on with each completion."""
        prompt = self._clean(prompt)
        head = self._text(prompt, header=True)
        texts = [head]
        for completion in completions:
            whole = self._text([*prompt, *self._clean(completion)], header=False)
            if not whole.startswith(head):
                raise DataError(
                    "the chat template renders a finished turn differently from a generation "
                    "prompt; use another chat_template"
                )
            texts.append(whole[len(head) :])
        return texts

    def _ended(self, ids: list[int]) -> list[int]:
        """The completion up to and with the end-of-turn token."""
        end = self.end_ids[0]
        while ids and ids[-1] != end and end in ids:
            ids.pop()
        if not ids or ids[-1] != end:
            ids.append(end)
        return ids

    def _text(self, messages: Messages, *, header: bool) -> str:
        text = self.tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=header
        )
        return str(text)

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _encode_many(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        distinct = list(dict.fromkeys(texts))  # pairs of one prompt stand together
        encoded = self.tokenizer(
            distinct, add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        ids = dict(zip(distinct, encoded["input_ids"], strict=True))
        return [list(ids[text]) for text in texts]


def _saved(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Digests of the files of a tokenizer that is not of the `tokenizers` library."""
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return [f"{p.name}={file_sha256(p)}" for p in sorted(Path(folder).iterdir())]
