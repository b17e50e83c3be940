"""Models that stop where their chat template ends an assistant's turn, without being told."""

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from evals.models.chat.renderer import ChatRenderer


def stops_where_turns_end(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> GenerationConfig | None:
    """The model's generation config, which now ends where an assistant's turn ends.

    None where there is no chat template, and nothing is changed.
    """
    if not tokenizer.chat_template:
        return None
    config = getattr(model, "generation_config", None) or GenerationConfig()
    named = config.eos_token_id
    before = named if isinstance(named, list) else [] if named is None else [named]
    ends = list(dict.fromkeys([*ChatRenderer(tokenizer).end_ids, *before]))
    config.eos_token_id = ends if len(ends) > 1 else ends[0]
    if config.pad_token_id is None and tokenizer.pad_token_id is not None:
        config.pad_token_id = int(tokenizer.pad_token_id)
    model.generation_config = config
    return config
