"""Models that stop where their chat template ends an assistant's turn, without being told."""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from evals.models.chat.renderer import ChatRenderer


def with_stops(config: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What generation_config.json says, and that a turn ends where the chat template ends it.

    `generate`, vLLM and `transformers serve` stop there then. Nothing is changed where it says so
    already, or where there is no chat template.
    """
    if not tokenizer.chat_template:
        return dict(config)
    named = config.get("eos_token_id")
    before = named if isinstance(named, list) else [] if named is None else [named]
    ends = list(dict.fromkeys([*before, *ChatRenderer(tokenizer).end_ids]))
    if ends == before:
        return dict(config)
    made = dict(config) | {"eos_token_id": ends if len(ends) > 1 else ends[0]}
    if made.get("pad_token_id") is None and tokenizer.pad_token_id is not None:
        made["pad_token_id"] = int(tokenizer.pad_token_id)
    return made
