"""DPO training on a CPU, measured against TRL: `make bench-train` (needs requirements/bench.txt).

Real HH pairs, a 27M-parameter llama with a 32k vocabulary, max_length 1024, 8 pairs a step, one
thread, every configuration in a process of its own, one after the other. The reference's
log-probabilities are known beforehand in "ours" and in "trl_best"; TRL's default computes them in
every step. "trl_best": precomputed, without gradient checkpointing, and with the LM head that TRL
otherwise keeps for GPUs (completion positions only) forced on; no setting of TRL gives that on a
CPU. Rows that end in "_medium" run under torch.set_float32_matmul_precision("medium"), where
`--rows` names them; each row says how exact its matrix products are.
"""

import argparse
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
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.benchmarks import training_pairs  # noqa: E402
from tests.benchmarks.training_pairs import (  # noqa: E402
    BPE_WORDS,
    PAIRS_PER_STEP,
    RESULTS,
    hh_rows,
    make_tokenizer,
    num_flops,
    num_tokens,
    show,
    tokenized,
    write_result,
)

__all__ = ["hh_rows", "make_model", "make_tokenizer"]

MAX_LENGTH, DEFAULT_PAIRS = 1024, 48
SHAPE: dict[str, Any] = {
    "vocab_size": BPE_WORDS,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "head_dim": 64,
    "max_position_embeddings": MAX_LENGTH,
}
ROWS = [
    f"{who}_{t}" for t in ("float32", "bfloat16") for who in ("trl_default", "trl_best", "ours")
]
EXTRA_ROWS = ["trl_best_float32_medium", "ours_float32_medium"]
TRL_BEST = {"precompute_ref_log_probs": True, "gradient_checkpointing": False}


def make_model() -> Any:
    """A random llama: 8 layers of 384, tied embeddings."""
    return training_pairs.make_model(SHAPE)


def matmul_flops(dtype: str) -> float:
    """Floating point operations per CPU-second of a matrix product of the model's size."""
    import torch

    a, b = (torch.randn(n, m).to(getattr(torch, dtype)) for n, m in ((1024, 384), (384, 8192)))
    a @ b
    started = time.process_time()
    for _ in range(5):
        a @ b
    return 5 * 2 * 1024 * 384 * 8192 / (time.process_time() - started)


def matmul_error(dtype: str) -> float:
    """Relative error (Frobenius) of a matrix product of the model's size, against float64."""
    import torch

    a, b = torch.randn(512, 1024).to(getattr(torch, dtype)), torch.randn(1024, 384)
    b = b.to(getattr(torch, dtype))
    exact = a.double() @ b.double()
    return float(((a @ b).double() - exact).norm() / exact.norm())


def train_ours(
    pairs: list[dict[str, Any]], dtype: Any, folder: Path, precision: Any = "highest"
) -> list[float]:
    """CPU and wall seconds of one epoch of prefline's training loop."""
    from schemas.stage import SilentProgress, StageContext
    from stages.training.config import TrainingConfig
    from stages.training.engines.choose import PackedEngine, open_engine
    from stages.training.loop import TrainingRun, train
    from stages.training.losses.config import SigmoidLoss
    from stages.training.objectives.preference import PairExample, PreferenceObjective

    items = [
        PairExample(str(i), pair["prompt"], pair["chosen"], pair["rejected"])
        for i, pair in enumerate(pairs)
    ]
    config = TrainingConfig(
        batch_size=PAIRS_PER_STEP, dtype=dtype, save_every=None, matmul_precision=precision
    )
    model = make_model()
    engine = open_engine(model, config, SilentProgress())
    assert isinstance(engine, PackedEngine)
    objective = PreferenceObjective(SigmoidLoss(), engine)
    run = TrainingRun(model, objective, items, [], config, StageContext({}, folder), "bench")
    cpu, wall = time.process_time(), time.perf_counter()
    train(run)
    return [time.process_time() - cpu, time.perf_counter() - wall]


def train_theirs(
    pairs: list[dict[str, Any]], dtype: str, tokenizer: Any, folder: Path, *, best: bool
) -> list[float]:
    """CPU and wall seconds of one epoch of TRL."""
    from transformers import LlamaForCausalLM

    from tests.benchmarks.trl_training import force_compact_head, train_trl

    settings = {"bf16": dtype == "bfloat16", "max_length": MAX_LENGTH, "use_cpu": True}
    if best:
        force_compact_head()
        settings |= TRL_BEST
    model = LlamaForCausalLM.from_pretrained(tokenizer.name_or_path)
    return train_trl(model, tokenizer, pairs, settings, folder)


def measure(row: str, count: int, folder: Path) -> dict[str, float]:
    """One configuration, in this process."""
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(1)
    name, medium, _ = row.partition("_medium")
    who, _, dtype = name.rpartition("_")
    precision = "medium" if medium else "highest"
    torch.set_float32_matmul_precision(precision)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pairs = tokenized(tokenizer, count, MAX_LENGTH)
    peak_flops, error = matmul_flops(dtype), matmul_error(dtype)
    with tempfile.TemporaryDirectory() as scratch:
        if who == "ours":
            cpu, wall = train_ours(pairs, dtype, Path(scratch), precision)
        else:
            best = who == "trl_best"
            cpu, wall = train_theirs(pairs, dtype, tokenizer, Path(scratch), best=best)
    tokens = num_tokens(pairs)
    return {
        "pairs": len(pairs),
        "tokens": tokens,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "cpu_seconds_per_token": cpu / tokens,
        "tokens_per_cpu_second": tokens / cpu,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "matmul_flops_per_second": peak_flops,
        "matmul_relative_error": error,
        "model_flops_utilisation": num_flops(pairs, SHAPE) / cpu / peak_flops,
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


LABELS = {"trl_default": "TRL 1.16 default", "trl_best": "TRL 1.16 at its best", "ours": "prefline"}


def markdown(measured: dict[str, dict[str, float]]) -> str:
    """The table that the README shows."""
    lines = [
        "| configuration | tokens per CPU-second | peak memory | model-FLOPs utilisation |",
        "|---|---|---|---|",
    ]
    for name, row in measured.items():
        plain, medium, _ = name.partition("_medium")
        who, _, dtype = plain.rpartition("_")
        label = f"{LABELS[who]}, {dtype}" + (', matmul_precision "medium"' if medium else "")
        lines.append(
            f"| {label} | {row['tokens_per_cpu_second']:,.0f} "
            f"| {row['peak_memory_bytes'] / 1e9:.2f} GB | {row['model_flops_utilisation']:.0%} |"
        )
    return "\n".join(lines)


def in_own_process(row: str, pairs: int, folder: str) -> dict[str, float]:
    """What `measure` gives in a fresh process with one thread."""
    command = [sys.executable, __file__, "--pairs", str(pairs), "--one", row, folder]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--pairs", type=int, default=DEFAULT_PAIRS, help="pairs of the one epoch; 8 a step"
    )
    parser.add_argument("--rows", nargs="+", default=ROWS, choices=ROWS + EXTRA_ROWS)
    parser.add_argument("--one", nargs=2, metavar=("ROW", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run every configuration in a process of its own, print and write what they measured."""
    options = arguments()
    if options.one:
        row, folder = options.one
        show(json.dumps(measure(row, options.pairs, Path(folder))))
        return
    show(f"{options.pairs} real HH pairs, one epoch, one thread, one process per row; load average")
    show(f"at the start {os.getloadavg()[0]:.2f}: CPU-seconds are worth something below 1")
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        make_tokenizer(Path(folder))
        make_model().save_pretrained(folder)
        for name in options.rows:
            row = measured[name] = in_own_process(name, options.pairs, folder)
            show(
                f"{name:24} {row['tokens_per_cpu_second']:6.0f} tokens per CPU-second"
                f" {row['wall_seconds']:7.1f} s {row['peak_memory_bytes'] / 1e9:5.2f} GB"
                f" MFU {row['model_flops_utilisation']:.0%}"
                f" matmul error {row['matmul_relative_error']:.0e}"
            )
    if not set(ROWS) <= set(measured):
        show("some rows are left out: nothing is written")
        return
    result = {"configurations": measured, "ratios": ratios(measured)}
    show(json.dumps(result["ratios"], indent=2))
    show(markdown(measured))
    write_result(RESULTS / "train-cpu.json", result)


if __name__ == "__main__":
    main()
