"""Cases whose memory is estimated and measured, and models that they are measured with."""

import random
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import AutoConfig, PreTrainedConfig

from evals.judges.scoring.transformers import label_masses
from evals.memory.between_layers import trim_between_layers
from evals.memory.inference import sampling_bill, scoring_bill
from evals.memory.shape import ModelShape, shape_of
from evals.models.checkpoints import ModelSource, load_causal_lm
from evals.models.logps import next_token_logits
from evals.models.samplers.config import SamplingSettings
from evals.models.samplers.decoding import decode
from evals.models.samplers.prompts import PromptTokens
from schemas.stage import Runtime, SilentProgress
from schemas.work import Bill
from stages.training.checkpoints.adapters import trainable_start
from stages.training.config import TrainingConfig
from stages.training.engines.choose import open_engine
from stages.training.losses.config import SigmoidLoss
from stages.training.memory.bill import Item, training_bill
from stages.training.objectives.preference import PairExample, PreferenceObjective
from stages.training.optimizer import adamw
from stages.training.start import load_start

REAL = "SmolLM2-135M"

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    REAL: (
        "llama",
        {
            "vocab_size": 49_152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "head_dim": 64,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": True,
        },
    ),
    "llama": (
        "llama",
        {
            "vocab_size": 8192,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 2,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "max_position_embeddings": 32_768,
        },
    ),
    "narrow": (
        "llama",
        {
            "vocab_size": 8192,
            "hidden_size": 256,
            "intermediate_size": 1024,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32_768,
        },
    ),
    "mamba": (
        "mamba",
        {"vocab_size": 8192, "hidden_size": 1024, "num_hidden_layers": 4, "state_size": 16},
    ),
    "mamba2": (
        "mamba2",
        {
            "vocab_size": 8192,
            "hidden_size": 1024,
            "num_hidden_layers": 4,
            "num_heads": 32,
            "head_dim": 64,
            "n_groups": 1,
            "state_size": 128,
            "chunk_size": 128,
        },
    ),
    "lfm2": (
        "lfm2",
        {
            "vocab_size": 8192,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "block_auto_adjust_ff_dim": False,
            "num_hidden_layers": 6,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "layer_types": ["conv", "conv", "full_attention", "conv", "conv", "full_attention"],
        },
    ),
    "deepseek_v3": (
        "deepseek_v3",
        {
            "vocab_size": 8192,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "moe_intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 16,
            "num_key_value_heads": 16,
            "q_lora_rank": 512,
            "kv_lora_rank": 256,
            "qk_rope_head_dim": 32,
            "qk_nope_head_dim": 64,
            "v_head_dim": 64,
            "first_k_dense_replace": 1,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "n_shared_experts": 1,
            "n_group": 1,
            "topk_group": 1,
            "max_position_embeddings": 32_768,
        },
    ),
}
"""Model type and sizes: a real model, and others that are wide and not deep."""


def config_of(model: str) -> PreTrainedConfig:
    """The config of a model by its name here."""
    family, sizes = MODELS[model]
    return AutoConfig.for_model(family, **sizes)


@dataclass(frozen=True)
class Case:
    """What is done with which model.

    `tokens`: of a pair with its prompt (train), or of a prompt; `written`: tokens that are sampled
    after it, for each prompt `repeats` times.
    """

    stage: Literal["train", "sample", "judge"]
    tokens: int
    model: str = REAL
    rows: int = 1
    written: int = 0
    repeats: int = 1
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> TrainingConfig:
        """Of a training."""
        return TrainingConfig.model_validate({"batch_size": self.rows, **self.training})

    @property
    def item(self) -> Item:
        """A pair with a short prompt."""
        completion = (self.tokens - PROMPT) // 2
        return Item(PROMPT, (completion, completion))

    def bill(self) -> Bill:
        """The estimate."""
        shape = shape_of(config_of(self.model).to_dict())
        assert isinstance(shape, ModelShape)
        if self.stage == "train":
            return training_bill(shape, self.settings, self.item, "cpu")
        if self.stage == "judge":
            return scoring_bill(shape, "float32", self.rows, self.tokens)
        longest = self.tokens + self.written
        return sampling_bill(shape, "float32", self.rows, self.written, longest, self.repeats)

    def run(self, folder: str) -> None:
        """Do it, once."""
        {"train": self._train, "sample": self._sample, "judge": self._judge}[self.stage](folder)

    def _train(self, folder: str) -> None:
        training = self.settings
        start = load_start(ModelSource(path=folder), training, Runtime(device="cpu"))
        policy = trainable_start(start, training.lora, folder, 0)
        trim_between_layers(policy)
        trained = [p for p in policy.parameters() if p.requires_grad]
        engine = open_engine(policy, training, SilentProgress())
        objective, optimizer = PreferenceObjective(SigmoidLoss(), engine), adamw(trained, training)
        drawn = _Words(config_of(self.model).vocab_size)
        chosen, rejected = self.item.completions
        pairs = [
            PairExample(str(i), drawn(self.item.prompt), drawn(chosen), drawn(rejected))
            for i in range(training.batch_size)
        ]
        for parameter in trained:  # states are there from the second step on
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad()
        for micro in objective.micro_batches(pairs, training.batch_size):
            objective.accumulate(policy, micro, 1 / len(pairs))
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()

    @torch.inference_mode()
    def _sample(self, folder: str) -> None:
        model = load_causal_lm(ModelSource(path=folder), torch.device("cpu"), "float32")
        drawn = _Words(config_of(self.model).vocab_size)
        # Lengths differ a little, so that there is padding.
        prompts = [drawn(self.tokens - i % 2) for i in range(-(-self.rows // self.repeats))]
        batch = [PromptTokens(i, prompts[i // self.repeats], seed=i) for i in range(self.rows)]
        decode(model, batch, SamplingSettings(max_tokens=self.written), ())

    @torch.inference_mode()
    def _judge(self, folder: str) -> None:
        model = load_causal_lm(ModelSource(path=folder), torch.device("cpu"), "float32")
        trim_between_layers(model)
        drawn = _Words(config_of(self.model).vocab_size)
        rows = [drawn(self.tokens) for _ in range(self.rows)]
        label_masses(next_token_logits(model, rows), [1, 2, 3])


PROMPT = 24
"""Tokens of a pair's prompt."""


class _Words:
    def __init__(self, vocab: int) -> None:
        self._random = random.Random(0)
        self._vocab = vocab

    def __call__(self, count: int) -> list[int]:
        return [self._random.randrange(5, self._vocab) for _ in range(count)]


_LORA = {"lora": {"rank": 16}}
_SHORT = {"weights": "bfloat16", "optimizer_states": "int8"}
_AGAIN = {"gradient_checkpointing": True}

CASES: dict[str, Case] = {
    "LoRA, one pair of 640 tokens": Case("train", 640, training=_LORA),
    "LoRA, one pair of 1,024 tokens": Case("train", 1024, training=_LORA),
    "LoRA, 4 pairs of 512 tokens": Case("train", 512, rows=4, training=_LORA),
    "LoRA, 4 pairs of 640 tokens, 0.3 GB a pass": Case(
        "train", 640, rows=4, training=_LORA | {"max_activation_gb": 0.3}
    ),
    "full, one pair of 512 tokens": Case("train", 512),
    "full, two pairs of 384 tokens": Case("train", 384, rows=2),
    "full, one pair of 1,024 tokens": Case("train", 1024),
    "full, recomputed, 1,024 tokens": Case("train", 1024, training=_AGAIN),
    "full, bfloat16, int8 states, 128 tokens": Case("train", 128, training=_SHORT),
    "sample, 32 rows of 772 tokens, one prompt": Case(
        "sample", 768, rows=32, written=4, repeats=32
    ),
    "sample, 64 rows of 516 tokens, 4 prompts": Case("sample", 512, rows=64, written=4, repeats=16),
    "judge, 16 rows of 1,024 tokens": Case("judge", 1024, rows=16),
    "sample, Llama, 16 prompts of 1,024 tokens": Case("sample", 1024, "llama", 16, 2),
    "judge, Llama, 8 rows of 2,048 tokens": Case("judge", 2048, "llama", 8),
    "recomputed, narrow, one pair of 16,384 a side": Case(
        "train", 2 * 16_384 - PROMPT, "narrow", training=_AGAIN
    ),
    "Mamba, 12 pairs of 40 tokens": Case("train", 40, "mamba", 12),
    "judge, Mamba, 16 rows of 128 tokens": Case("judge", 128, "mamba", 16),
    "Mamba-2, 2 pairs of 512 tokens": Case("train", 512, "mamba2", 2),
    "judge, Mamba-2, 8 rows of 1,024 tokens": Case("judge", 1024, "mamba2", 8),
    "LFM2, 2 pairs of 512 tokens": Case("train", 512, "lfm2", 2),
    "LFM2, 4 pairs of 512 tokens": Case("train", 512, "lfm2", 4),
    "judge, LFM2, 10 rows of 1,024 tokens": Case("judge", 1024, "lfm2", 10),
    "DeepSeek V3, 2 pairs of 512 tokens": Case("train", 512, "deepseek_v3", 2),
    "judge, DeepSeek V3, 8 rows of 1,024 tokens": Case("judge", 1024, "deepseek_v3", 8),
    "sample, DeepSeek V3, 64 rows of 1,026 tokens": Case("sample", 1024, "deepseek_v3", 64, 2, 64),
}
