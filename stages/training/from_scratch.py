"""A causal language model and its tokenizer, made on the spot: no download, the same every time."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from schemas.labels import Messages
from schemas.stage import Config

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PADDING, BEGIN, TURN_START, TURN_END = "<|pad|>", "<|begin|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (PADDING, BEGIN, TURN_START, TURN_END)
_BYTES = 256

# What vLLM's attention takes on a CPU; on a GPU it takes these too.
VLLM_HEAD_SIZES = frozenset({32, 64, 80, 96, 112, 128, 160, 192, 224, 256})


class BpeTokenizer(Config):
    """Byte-level BPE learned from the training texts."""

    kind: Literal["bpe"] = "bpe"
    vocab_size: int = Field(
        4096,
        ge=_BYTES + len(SPECIAL_TOKENS),
        description="tokens at most: 256 bytes, 4 special tokens, and merges learned from the data",
    )


class ByteTokenizer(Config):
    """One token per byte of UTF-8, and the special tokens."""

    kind: Literal["byte"] = "byte"

    @property
    def vocab_size(self) -> int:
        """Bytes and special tokens, no merges."""
        return _BYTES + len(SPECIAL_TOKENS)


TokenizerSettings = Annotated[BpeTokenizer | ByteTokenizer, Field(discriminator="kind")]


class FromScratch(Config):
    """A random model of a given shape, and a tokenizer trained on the spot."""

    architecture: Literal["llama"] = Field("llama", description="family of the model")
    hidden_size: int = Field(128, ge=2, description="width of the residual stream")
    num_layers: int = Field(4, ge=1, description="transformer blocks")
    num_heads: int = Field(4, ge=1, description="attention heads; divides hidden_size")
    num_kv_heads: int | None = Field(
        None, ge=1, description="key and value heads; divides num_heads; null: as many as heads"
    )
    intermediate_size: int | None = Field(
        None, ge=1, description="width inside the MLP; null: 3 * hidden_size"
    )
    max_position_embeddings: int = Field(512, ge=8, description="longest sequence in tokens")
    tie_embeddings: bool = Field(True, description="input and output embeddings are one matrix")
    initializer_range: float = Field(
        0.02, gt=0, description="standard deviation of the initial weights"
    )
    tokenizer: TokenizerSettings = Field(BpeTokenizer(), description="bpe or byte")
    chat_template: Literal["chatml", "role_colon"] = Field(
        "chatml", description="layout of conversations, saved with the model"
    )

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @model_validator(mode="after")
    def _shape_is_possible(self) -> "FromScratch":
        if self.hidden_size % self.num_heads or self.head_size % 2:
            raise ValueError("hidden_size must be an even multiple of num_heads")
        if self.num_kv_heads and self.num_heads % self.num_kv_heads:
            raise ValueError("num_heads must be a multiple of num_kv_heads")
        return self


def conversation_texts(settings: FromScratch, conversations: Iterable[Messages]) -> Iterator[str]:
    """Whole conversations in the model's layout, for the tokenizer to learn from."""
    from jinja2 import Template

    from evals.models.rendering import CHAT_TEMPLATES

    template = Template(CHAT_TEMPLATES[settings.chat_template], keep_trailing_newline=True)
    for messages in conversations:
        yield template.render(messages=messages, bos_token=BEGIN, eos_token=TURN_END)


def train_tokenizer(settings: FromScratch, texts: Iterable[str]) -> "PreTrainedTokenizerBase":
    """A byte-level tokenizer: any text comes back from its tokens as it was.

    `texts` are whole rendered conversations; their control tokens are cut out first, so that
    merges are learned from what stands between them.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from evals.models.rendering import CHAT_TEMPLATES

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
    settings: FromScratch, tokenizer: "PreTrainedTokenizerBase", seed: int
) -> "PreTrainedModel":
    """A random float32 model for the tokenizer; the same seed gives the same weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

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
