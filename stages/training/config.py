"""Settings of every training stage."""

import math
from typing import Any, Literal, Protocol

from pydantic import Field, field_validator, model_validator

from evals.models.checkpoints import WeightFormat
from schemas.stage import Config
from schemas.work import Work

StateFormat = Literal["float32", "bfloat16", "int8"]
SavedDtype = Literal["start", "float32", "bfloat16", "float16"]


class LoraConfig(Config):
    """Low-rank adapters instead of full fine-tuning (Hu et al. 2021, arXiv:2106.09685)."""

    rank: int = Field(32, ge=1, description="rank of the update")
    alpha: float = Field(32.0, gt=0, description="the update is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the adapter's input")
    target_modules: str | tuple[str, ...] = Field(
        "all-linear", description="all-linear, or the names of the modules to adapt"
    )

    start: Literal["continue", "new"] = Field(
        "continue",
        description="where training starts from an adapter: continue goes on with it (rank must "
        "agree), new merges it into its base and puts a new one on",
    )

    @field_validator("target_modules")
    @classmethod
    def _a_list_is_a_list(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(value, str) and "," in value:
            names = ", ".join(f'"{name.strip()}"' for name in value.split(","))
            raise ValueError(f"several modules are a list: [{names}]")
        return value


class Truncation(Config):
    """What to do with items that are longer than `max_length`."""

    how: Literal[
        "reject", "keep_start", "keep_end", "drop_turns", "cut_completions", "cut_thinking"
    ] = Field(
        "reject",
        description="reject; keep_start (cut_completions): the end of completions goes; keep_end: "
        "the beginning of the prompt goes; drop_turns: its earliest turns go; cut_thinking: the "
        "end of what was thought before the answer goes",
    )
    prompt_tokens: int | None = Field(
        None,
        ge=1,
        description="keep_end: so many of a prompt's last tokens stay, and a completion that is "
        "still too long is cut to max_length less these, as TRL's max_prompt_length did; null: the "
        "prompt gives way to the completions",
    )
    train_end: bool = Field(
        False, description="give a completion that was cut an end token, which is trained"
    )

    @model_validator(mode="after")
    def _of_keep_end(self) -> "Truncation":
        if self.prompt_tokens is not None and self.how != "keep_end":
            raise ValueError(f"prompt_tokens is of how = keep_end, not of {self.how}")
        return self


class TrainingConfig(Config):
    """Optimiser, batches, length, precision, and how often to evaluate and to save."""

    learning_rate: float = Field(1e-5, gt=0, description="peak learning rate of AdamW")
    lr_schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear",
        description="decay after warm-up: linear or cosine to min_lr_ratio; constant does not "
        "decay",
    )
    min_lr_ratio: float = Field(
        0.0, ge=0, lt=1, description="what the schedule decays to, as a share of learning_rate"
    )
    warmup_ratio: float = Field(0.0, ge=0, lt=1, description="share of the steps that warm up")
    num_epochs: int | float = Field(
        1, gt=0, description="passes over the training items; 0.5 sees half of them, in any order"
    )
    max_steps: int | None = Field(
        None,
        ge=1,
        description="optimizer steps; takes the place of num_epochs where given. When it is raised "
        "later, a training with a constant schedule and no warm-up goes on from its last step; "
        "any other schedule depends on its end, and begins anew",
    )
    batch_size: int = Field(8, ge=1, description="items (pairs or examples) per optimizer step")
    micro_batch_size: int | None = Field(
        None, ge=1, description="items per forward pass; null takes the whole batch at once"
    )
    packing: bool = Field(
        True,
        description="pack items without padding and compute a shared prompt once, where the model "
        "can; false: padded batches",
    )
    tokens_per_micro_batch: int | None = Field(
        None,
        ge=1,
        description="token budget of a packed forward pass; an item above it goes alone; null "
        "takes 1024 on a CPU (2048 in bfloat16), 4096 on a GPU",
    )
    gradient_checkpointing: bool = Field(
        False,
        description="keep the inputs of layers only and run them again in the backward: less "
        "memory, about a third more time",
    )
    max_activation_gb: float | None = Field(
        None,
        gt=0,
        description="GB (1e9 bytes) that one forward and backward pass may take beside weights, "
        "gradients and optimizer states, as estimated: fewer items go together, and where one "
        "alone takes more, as many layers as must be are run again, as by gradient_checkpointing; "
        "what is learned is the same up to rounding; null sets no limit",
    )
    max_length: int | None = Field(
        None,
        ge=2,
        description="tokens of prompt and completion; longer items are treated as truncation "
        "says; null takes the model's own limit",
    )
    truncation: Truncation = Field(
        Truncation(), description="how longer items are made to fit; what is cut is counted"
    )
    loss_on_reasoning: bool = Field(
        True,
        description="train what was thought before an answer too, as it was sampled; false: "
        "thoughts are read, and the answer alone is trained",
    )
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this L2 norm")
    weight_decay: float = Field(0.0, ge=0, description="AdamW decay of matrices (never of norms)")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="decay of AdamW's first moment")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="decay of AdamW's second moment")
    adam_eps: float = Field(1e-8, gt=0, description="AdamW's epsilon")
    seed: int = Field(0, ge=0, description="seed of the shuffles and of every random layer")
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="compute type; bfloat16 is autocast over float32 master weights"
    )
    weights: Literal["auto", "float32", "bfloat16", "nf4"] = Field(
        "auto",
        description="number format of the weights in memory. Under LoRA, of the frozen ones: auto "
        "is bfloat16 on a GPU and float32 on a CPU, nf4 is 4 bits (QLoRA; needs bitsandbytes), and "
        "adapters are float32. Without LoRA: auto is float32, bfloat16 trains weights in bfloat16 "
        "with stochastic rounding",
    )
    optimizer_states: StateFormat = Field(
        "float32",
        description="number format of AdamW's two moments; int8 is blockwise, by bitsandbytes",
    )
    matmul_precision: Literal["highest", "high", "medium"] = Field(
        "highest", description="torch.set_float32_matmul_precision during training"
    )
    eval_every: int | None = Field(
        None, ge=1, description="steps between held-out evaluations; null: first and last only"
    )
    max_held_out: int | None = Field(
        None, ge=1, description="held-out items to evaluate on; null takes all"
    )
    save_every: int | None = Field(
        200, ge=1, description="steps between checkpoints to resume from; null saves none"
    )
    lora: LoraConfig | None = Field(None, description="train low-rank adapters only")
    save_dtype: SavedDtype = Field(
        "start", description="number format of the saved weights; start: that of the start model"
    )

    @model_validator(mode="after")
    def _four_bits_are_frozen(self) -> "TrainingConfig":
        if self.weights != "nf4":
            return self
        if self.lora is None:
            raise ValueError(
                "weights: weights in nf4 cannot be trained themselves; add lora, or set weights "
                "to bfloat16 and optimizer_states to int8"
            )
        return self

    def weights_on(self, device: str) -> WeightFormat:
        """The number format of the weights that a model is loaded with on a kind of device."""
        if self.weights != "auto":
            return self.weights
        return "bfloat16" if self.lora is not None and device == "cuda" else "float32"

    @property
    def can_be_continued(self) -> bool:
        """Whether the first steps are the same however many there are in all."""
        return self.lr_schedule == "constant" and not self.warmup_ratio


class HasTraining(Protocol):
    """Settings of a stage that trains a model."""

    @property
    def training(self) -> TrainingConfig:
        """How it trains."""

    def model_dump(self, *, mode: str, exclude: Any) -> dict[str, Any]:
        """All settings but those in `exclude`, as JSON has them."""


def continuation_of(config: HasTraining) -> dict[str, Any] | None:
    """All that a longer training must share with a shorter one to go on from its end.

    None where the schedule depends on the end: it has decayed (or warmed up) for that length.
    """
    if not config.training.can_be_continued:
        return None
    length = {"max_steps", "num_epochs", "save_every"}
    return config.model_dump(mode="json", exclude={"training": length})


def steps_per_epoch(config: TrainingConfig, num_items: int) -> int:
    """Optimizer steps that see every item once."""
    return math.ceil(num_items / config.batch_size)


def total_steps(config: TrainingConfig, num_items: int) -> int:
    """Optimizer steps of the whole training."""
    return config.max_steps or math.ceil(
        round(config.num_epochs * steps_per_epoch(config, num_items), 9)
    )


def steps_of_work(config: TrainingConfig, items: int | None) -> Work:
    """The optimizer steps that training on so many items takes, at most; for a dry run."""
    if items is None:
        return Work("steps", config.max_steps)
    return Work("steps", total_steps(config, items) if items else 0)
