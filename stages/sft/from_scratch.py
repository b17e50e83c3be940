"""A causal language model and its tokenizer, made on the spot: no download, the same every time."""

from collections.abc import Iterable, Iterator

import torch
from jinja2 import Template
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from evals.models.rendering import CHAT_TEMPLATES
from schemas.labels import Messages
from stages.sft.config import FromScratch

PADDING, BEGIN, TURN_START, TURN_END = "<|pad|>", "<|begin|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (PADDING, BEGIN, TURN_START, TURN_END)

# What vLLM's attention takes on a CPU; on a GPU it takes these too.
VLLM_HEAD_SIZES = frozenset({32, 64, 80, 96, 112, 128, 160, 192, 224, 256})


def conversation_texts(settings: FromScratch, conversations: Iterable[Messages]) -> Iterator[str]:
    """Whole conversations in the model's layout, for the tokenizer to learn from."""
    template = Template(CHAT_TEMPLATES[settings.chat_template], keep_trailing_newline=True)
    for messages in conversations:
        yield template.render(messages=messages, bos_token=BEGIN, eos_token=TURN_END)


def train_tokenizer(settings: FromScratch, texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """A byte-level tokenizer: any text comes back from its tokens as it was.

    `texts` are whole rendered conversations; their control tokens are cut out first, so that
    merges are learned from what stands between them.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.tokenizer.vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator((_between_control_tokens(t) for t in texts), trainer)
    tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PADDING,
        bos_token=BEGIN,
        eos_token=TURN_END,
        additional_special_tokens=[TURN_START],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATES[settings.chat_template]
    return tokenizer


def initial_model(
    settings: FromScratch, tokenizer: PreTrainedTokenizerBase, seed: int
) -> PreTrainedModel:
    """A random float32 model for the tokenizer; the same seed gives the same weights."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size or 3 * settings.hidden_size,
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_heads,
        num_key_value_heads=settings.num_kv_heads or settings.num_heads,
        max_position_embeddings=settings.max_position_embeddings,
        initializer_range=settings.initializer_range,
        tie_word_embeddings=settings.tie_embeddings,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def _between_control_tokens(text: str) -> str:
    for token in SPECIAL_TOKENS:
        text = text.replace(token, "")
    return text
