"""DPO training on a CPU, measured against TRL: `make bench-train` (needs requirements/bench.txt).

Real HH pairs, a 27M-parameter llama with a 32k vocabulary trained on them, max_length 1024, 8 pairs
a step, one thread, every configuration in a process of its own. The reference's log-probabilities
are known beforehand in "ours" and in "trl_best"; TRL's default computes them in every step.
"trl_best": precomputed, without gradient checkpointing, and with the LM head that TRL otherwise
keeps for GPUs (completion positions only) forced on; no setting of TRL gives that on a CPU.
"""

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULT = Path(__file__).parent / "results" / "train-cpu.json"
CONFIGURATIONS = ("trl_default", "trl_best", "ours")
MAX_LENGTH, PAIRS_PER_STEP, VOCABULARY = 1024, 8, 32_000


def real_data() -> Path:
    """The folder of real data sets."""
    return Path(os.environ.get("PREFLINE_REAL_DATA", ROOT.parent / "shared" / "data"))


def hh_rows() -> list[dict[str, str]]:
    """Prompt, chosen and rejected texts of HH, split at the last assistant turn."""
    path = real_data() / "hh-rlhf" / "harmless-base-test.jsonl.gz"
    if not path.exists():
        sys.exit(f"{path} is not there: set PREFLINE_REAL_DATA to the folder that holds hh-rlhf/")
    rows = []
    marker = "\n\nAssistant:"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            pair = json.loads(line)
            prompt, _, chosen = pair["chosen"].rpartition(marker)
            other, _, rejected = pair["rejected"].rpartition(marker)
            if prompt == other and chosen.strip() and rejected.strip() and chosen != rejected:
                rows.append({"prompt": prompt + marker, "chosen": chosen, "rejected": rejected})
    return rows


def make_tokenizer(folder: Path) -> None:
    """Train and save a byte-level BPE tokenizer on all texts."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    backend = ByteLevelBPETokenizer()
    texts = (text for row in hh_rows() for text in row.values())
    special = ["<|pad|>", "<|end|>"]
    backend.train_from_iterator(
        texts, VOCABULARY, special_tokens=special, show_progress=False, min_frequency=1
    )
    PreTrainedTokenizerFast(
        tokenizer_object=backend._tokenizer, pad_token="<|pad|>", eos_token="<|end|>"
    ).save_pretrained(folder)


def make_model() -> Any:
    """A random llama: 8 layers of 384, tied embeddings."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def tokenized(tokenizer: Any, count: int) -> list[dict[str, Any]]:
    """The first `count` pairs, evenly spread over the file, that fit into MAX_LENGTH."""
    rows = hh_rows()
    pairs = []
    for row in rows[:: max(1, len(rows) // (count + 8))]:
        prompt = tokenizer.encode(row["prompt"])
        chosen, rejected = ([*tokenizer.encode(row[k]), 1] for k in ("chosen", "rejected"))
        if len(prompt) + max(len(chosen), len(rejected)) <= MAX_LENGTH:
            pairs.append({"row": row, "prompt": prompt, "chosen": chosen, "rejected": rejected})
    return pairs[:count]


def matmul_flops(dtype: str) -> float:
    """Floating point operations per second of a matrix product of the model's size."""
    import torch

    a, b = torch.randn(1024, 384), torch.randn(384, 8192)
    a, b = a.to(getattr(torch, dtype)), b.to(getattr(torch, dtype))
    a @ b
    started = time.process_time()
    for _ in range(5):
        a @ b
    return 5 * 2 * 1024 * 384 * 8192 / (time.process_time() - started)


def train_ours(pairs: list[dict[str, Any]], dtype: Any, folder: Path) -> tuple[float, float]:
    """CPU and wall seconds of one epoch of prefline's training loop."""
    from schemas.stage import SilentProgress, StageContext
    from stages.training.config import TrainingConfig
    from stages.training.dpo import PairExample, PreferenceObjective
    from stages.training.engines import PackedEngine, open_engine
    from stages.training.loop import TrainingRun, train
    from stages.training.losses import SigmoidLoss

    items = [
        PairExample(str(i), pair["prompt"], pair["chosen"], pair["rejected"])
        for i, pair in enumerate(pairs)
    ]
    config = TrainingConfig(batch_size=PAIRS_PER_STEP, dtype=dtype, save_every=None)
    model = make_model()
    engine = open_engine(model, config, SilentProgress())
    assert isinstance(engine, PackedEngine)
    objective = PreferenceObjective(SigmoidLoss(), engine)
    run = TrainingRun(model, objective, items, [], config, StageContext({}, folder), "bench")
    cpu, wall = time.process_time(), time.perf_counter()
    train(run)
    return time.process_time() - cpu, time.perf_counter() - wall


def train_trl(
    pairs: list[dict[str, Any]], dtype: str, folder: Path, tokenizer: Any, *, best: bool
) -> tuple[float, float]:
    """CPU and wall seconds of one epoch of TRL, without what it does before the first step."""
    import trl.trainer.utils as trl_internals
    from datasets import Dataset
    from transformers import LlamaForCausalLM, TrainerCallback
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    marks: list[tuple[float, float]] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            marks.append((time.process_time(), time.perf_counter()))

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            marks.append((time.process_time(), time.perf_counter()))

    settings: dict[str, Any] = {"bf16": dtype == "bfloat16"}
    if best:
        setattr(trl_internals, "_use_triton", lambda device: True)  # noqa: B010
        settings |= {"precompute_ref_log_probs": True, "gradient_checkpointing": False}
    trainer = DPOTrainer(
        model=LlamaForCausalLM.from_pretrained(tokenizer.name_or_path),
        args=DPOConfig(
            output_dir=str(folder),
            per_device_train_batch_size=PAIRS_PER_STEP,
            max_length=MAX_LENGTH,
            num_train_epochs=1,
            learning_rate=1e-5,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            **settings,
        ),
        train_dataset=Dataset.from_list([pair["row"] for pair in pairs]),
        processing_class=tokenizer,
        callbacks=[Clock()],
    )
    trainer.train()
    (cpu, wall), (cpu_end, wall_end) = marks
    return cpu_end - cpu, wall_end - wall


def measure(configuration: str, dtype: str, count: int, folder: Path) -> dict[str, float]:
    """One configuration, in this process."""
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pairs = tokenized(tokenizer, count)
    peak_flops = matmul_flops(dtype)
    with tempfile.TemporaryDirectory() as scratch:
        if configuration == "ours":
            cpu, wall = train_ours(pairs, dtype, Path(scratch))
        else:
            best = configuration == "trl_best"
            cpu, wall = train_trl(pairs, dtype, Path(scratch), tokenizer, best=best)
    completion = sum(len(p["chosen"]) + len(p["rejected"]) for p in pairs)
    tokens = completion + sum(len(p["prompt"]) for p in pairs)
    body = sum(p.numel() for p in make_model().model.layers.parameters())
    flops = 6 * (body * tokens + VOCABULARY * 384 * completion)
    return {
        "pairs": len(pairs),
        "tokens": tokens,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "cpu_seconds_per_token": cpu / tokens,
        "tokens_per_cpu_second": tokens / cpu,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "matmul_flops_per_second": peak_flops,
        "model_flops_utilisation": flops / cpu / peak_flops,
    }


def ratios(measured: dict[str, dict[str, float]]) -> dict[str, float]:
    """How many times less CPU per token ours takes; and our peak memory over TRL's default."""

    def cost(configuration: str, dtype: str) -> float:
        return measured[f"{configuration}_{dtype}"]["cpu_seconds_per_token"]

    names = {"float32": "float32", "bf16": "bfloat16"}
    table = {
        f"{short}_vs_{other}": cost(other, dtype) / cost("ours", dtype)
        for short, dtype in names.items()
        for other in ("trl_default", "trl_best")
    }
    peaks = [measured[f"{who}_float32"]["peak_memory_bytes"] for who in ("ours", "trl_default")]
    return {**table, "memory_vs_trl_default": peaks[0] / peaks[1]}


def show(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run every configuration in a process of its own, print and write what they measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--one", nargs=3, metavar=("CONFIGURATION", "DTYPE", "FOLDER"))
    options = parser.parse_args()
    if options.one:
        configuration, dtype, folder = options.one
        show(json.dumps(measure(configuration, dtype, options.pairs, Path(folder))))
        return
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        make_tokenizer(Path(folder))
        make_model().save_pretrained(folder)
        for dtype in ("float32", "bfloat16"):
            for configuration in CONFIGURATIONS:
                command = [sys.executable, __file__, "--pairs", str(options.pairs)]
                command += ["--one", configuration, dtype, folder]
                environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
                done = subprocess.run(
                    command, env=environment, check=True, stdout=subprocess.PIPE, text=True
                )
                name = f"{configuration}_{dtype}"
                measured[name] = json.loads(done.stdout.splitlines()[-1])
                row = measured[name]
                show(
                    f"{name:22} {row['tokens_per_cpu_second']:8.0f} tokens per CPU-second"
                    f" {row['wall_seconds']:7.1f} s {row['peak_memory_bytes'] / 1e9:5.2f} GB"
                    f" MFU {row['model_flops_utilisation']:.0%}"
                )
    result = {"configurations": measured, "ratios": ratios(measured)}
    show(json.dumps(result["ratios"], indent=2))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
