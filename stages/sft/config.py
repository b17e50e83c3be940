"""Settings of sft."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from evals.memory.shape import ModelShape
from evals.models.checkpoints import ModelSource
from schemas.stage import Config
from stages.training.config import TrainingConfig

_BYTES = 256
_SPECIAL_TOKENS = 4


class BpeTokenizer(Config):
    """Byte-level BPE learned from the training texts."""

    kind: Literal["bpe"] = "bpe"
    vocab_size: int = Field(
        4096,
        ge=_BYTES + _SPECIAL_TOKENS,
        description="tokens at most: 256 bytes, 4 special tokens, and merges learned from the data",
    )


class ByteTokenizer(Config):
    """One token per byte of UTF-8, and the special tokens."""

    kind: Literal["byte"] = "byte"

    @property
    def vocab_size(self) -> int:
        """Bytes and special tokens, no merges."""
        return _BYTES + _SPECIAL_TOKENS


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

    @property
    def shape(self) -> ModelShape:
        """Its sizes, with the largest vocabulary that the tokenizer may have."""
        return ModelShape(
            hidden=self.hidden_size,
            layers=self.num_layers,
            heads=self.num_heads,
            kv_heads=self.num_kv_heads or self.num_heads,
            head=self.head_size,
            mlp=self.intermediate_size or 3 * self.hidden_size,
            vocab=self.tokenizer.vocab_size,
            positions=self.max_position_embeddings,
            tied=self.tie_embeddings,
        )

    @model_validator(mode="after")
    def _shape_is_possible(self) -> "FromScratch":
        if self.hidden_size % self.num_heads or self.head_size % 2:
            raise ValueError("hidden_size must be an even multiple of num_heads")
        if self.num_kv_heads and self.num_heads % self.num_kv_heads:
            raise ValueError("num_heads must be a multiple of num_kv_heads")
        return self


class SftConfig(Config):
    """Supervised training on the demonstrations of ingest."""

    model: ModelSource | None = Field(None, description="the model to start from")
    from_scratch: FromScratch | None = Field(
        None, description="or the shape of a new model, its tokenizer trained on the spot"
    )
    training: TrainingConfig = Field(TrainingConfig(), description="how to train")

    @model_validator(mode="after")
    def _one_start(self) -> "SftConfig":
        if (self.model is None) == (self.from_scratch is None):
            raise ValueError("give exactly one of model and from_scratch")
        return self
