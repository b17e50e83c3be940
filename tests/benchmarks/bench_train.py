"""DPO training on a CPU, measured against TRL: `make bench-train` (needs requirements/bench.txt).

Two cases, one thread, every configuration in a process of its own, one after the other. "hh":
real HH pairs, a 27M-parameter llama with a 32k vocabulary, at most 1,024 tokens, 8 pairs a step.
"smollm2", where the model is there: SmolLM2-135M-Instruct, real UltraFeedback pairs of at most 640
tokens through its chat template, 8 a step; beside it a limit for activations that the longest pair
just keeps, and LoRA of rank 16 with 4 pairs a step.

The reference's log-probabilities are known beforehand in "ours" and in "trl_best"; TRL's default
computes them in every step. "trl_best": precomputed, without gradient checkpointing, and with the
LM head that TRL otherwise keeps for GPUs (completion positions only) forced on; no setting of TRL
gives that on a CPU. bfloat16 is measured where the CPU has units for it. Rows that end in "_medium"
run under torch.set_float32_matmul_precision("medium"), where `--rows` names them; each row says how
exact its matrix products are, and how many of those that the same process can do it came to.
`--rows` measures some rows again and keeps the others of the same machine and pairs.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    attention_flops,
    chat_pairs,
    hh_rows,
    make_tokenizer,
    num_flops,
    num_tokens,
    real_model,
    show,
    tokenized,
    write_result,
)

__all__ = ["hh_rows", "make_model", "make_tokenizer"]

SHAPE: dict[str, Any] = {
    "vocab_size": BPE_WORDS,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "head_dim": 64,
    "max_position_embeddings": 1024,
}
FULL = ("trl_default", "trl_best", "ours")
TRL_BEST = {"precompute_ref_log_probs": True, "gradient_checkpointing": False}
LORA_RANK, LORA_PAIRS = 16, 4
# Enough for the longest of these pairs without a layer that is run again.
LIMIT_GB = 0.9


@dataclass(frozen=True)
class Case:
    """A model and pairs, and the rows that are measured on them."""

    max_length: int
    pairs: int
    result: str
    rows: Sequence[str]

    @property
    def with_bfloat16(self) -> Sequence[str]:
        """Rows in both formats."""
        return [*self.rows, *(row.replace("float32", "bfloat16") for row in self.rows)]


CASES = {
    "hh": Case(1024, 48, "train-cpu.json", [f"{who}_float32" for who in FULL]),
    "smollm2": Case(
        640,
        16,
        "train-cpu-smollm2.json",
        [f"{who}_float32" for who in (*FULL, "ours_limited", "ours_lora")],
    ),
}
EXTRA_ROWS = ["trl_best_float32_medium", "ours_float32_medium"]


def make_model() -> Any:
    """A random llama: 8 layers of 384, tied embeddings."""
    return training_pairs.make_model(SHAPE)


def prepared(case: str, folder: Path) -> Path:
    """The folder of the case's model and tokenizer; `folder` where it has to be made."""
    if case == "smollm2":
        found = real_model()
        if found is None:
            show("no SmolLM2-135M-Instruct here: set PREFLINE_REAL_MODEL to its folder")
            sys.exit(2)
        return found
    make_tokenizer(folder)
    make_model().save_pretrained(folder)
    return folder


def has_bfloat16() -> bool:
    """Whether the CPU has units for bfloat16 (as Linux says it)."""
    said = Path("/proc/cpuinfo")
    flags = said.read_text().split() if said.exists() else []
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))


def matmul_flops(dtype: str, hidden: int) -> float:
    """Floating point operations per CPU-second of a matrix product of the model's size."""
    import torch

    shapes = ((1024, hidden), (hidden, 8192))
    a, b = (torch.randn(shape).to(getattr(torch, dtype)) for shape in shapes)
    out = a @ b
    started = time.process_time()
    for _ in range(5):
        torch.mm(a, b, out=out)
    return 5 * 2 * 1024 * hidden * 8192 / (time.process_time() - started)


def matmul_error(dtype: str) -> float:
    """Relative error (Frobenius) of a matrix product of the model's size, against float64."""
    import torch

    a, b = torch.randn(512, 1024).to(getattr(torch, dtype)), torch.randn(1024, 384)
    b = b.to(getattr(torch, dtype))
    exact = a.double() @ b.double()
    return float(((a @ b).double() - exact).norm() / exact.norm())


def train_ours(
    pairs: list[dict[str, Any]], model: Path, settings: Mapping[str, Any], folder: Path
) -> list[float]:
    """CPU and wall seconds of one epoch of prefline's training loop."""

    from evals.models.checkpoints import ModelSource
    from schemas.stage import Runtime, SilentProgress, StageContext
    from stages.training.checkpoints.adapters import trainable_start
    from stages.training.config import TrainingConfig
    from stages.training.engines.choose import PackedEngine, open_engine
    from stages.training.loop import TrainingRun, train
    from stages.training.losses.config import SigmoidLoss
    from stages.training.objectives.preference import PairExample, PreferenceObjective
    from stages.training.start import load_start

    items = [
        PairExample(str(i), pair["prompt"], pair["chosen"], pair["rejected"])
        for i, pair in enumerate(pairs)
    ]
    config = TrainingConfig.model_validate({"save_every": None, **settings})
    start = load_start(ModelSource(path=str(model)), config, Runtime(device="cpu"))
    policy = trainable_start(start, config.lora, str(model), config.seed)
    engine = open_engine(policy, config, SilentProgress())
    assert isinstance(engine, PackedEngine)
    objective = PreferenceObjective(SigmoidLoss(), engine)
    run = TrainingRun(policy, objective, items, [], config, StageContext({}, folder), "bench")
    cpu, wall = time.process_time(), time.perf_counter()
    train(run)
    return [time.process_time() - cpu, time.perf_counter() - wall]


def train_theirs(
    pairs: list[dict[str, Any]], folder: Path, settings: Mapping[str, Any], scratch: Path
) -> list[float]:
    """CPU and wall seconds of one epoch of TRL, from a model that was saved in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tests.benchmarks.trl_training import force_compact_head, train_trl

    if settings.items() >= TRL_BEST.items():
        force_compact_head()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return train_trl(model, tokenizer, pairs, settings, scratch)


def measure(case: str, row: str, count: int, folder: Path) -> dict[str, float]:
    """One configuration, in this process."""
    import torch
    from transformers import AutoConfig, AutoTokenizer

    torch.set_num_threads(1)
    name, medium, _ = row.partition("_medium")
    who, _, dtype = name.rpartition("_")
    precision = "medium" if medium else "highest"
    torch.set_float32_matmul_precision(precision)
    read = tokenized if case == "hh" else chat_pairs
    max_length = CASES[case].max_length
    pairs = read(AutoTokenizer.from_pretrained(folder), count, max_length)
    shape = AutoConfig.from_pretrained(folder).to_dict()
    lora, together = who == "ours_lora", min(PAIRS_PER_STEP, count)
    speed = matmul_flops(dtype, shape["hidden_size"])
    with tempfile.TemporaryDirectory() as scratch:
        if who.startswith("ours"):
            ours: dict[str, Any] = {"dtype": dtype, "matmul_precision": precision}
            ours["batch_size"] = min(LORA_PAIRS, count) if lora else together
            ours["lora"] = {"rank": LORA_RANK} if lora else None
            ours["max_activation_gb"] = LIMIT_GB if who == "ours_limited" else None
            cpu, wall = train_ours(pairs, folder, ours, Path(scratch))
        else:
            theirs: dict[str, Any] = {"bf16": dtype == "bfloat16", "use_cpu": True}
            theirs |= {"max_length": max_length, "per_device_train_batch_size": together}
            theirs |= TRL_BEST if who == "trl_best" else {}
            cpu, wall = train_theirs(pairs, folder, theirs, Path(scratch))
    speed = max(speed, matmul_flops(dtype, shape["hidden_size"]))
    tokens, flops = num_tokens(pairs), num_flops(pairs, shape, 4 if lora else 6)
    return {
        "pairs": len(pairs),
        "tokens": tokens,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "cpu_seconds_per_token": cpu / tokens,
        "tokens_per_cpu_second": tokens / cpu,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "matmul_flops_per_second": speed,
        "matmul_relative_error": matmul_error(dtype),
        "model_flops_utilisation": flops / cpu / speed,
        "utilisation_with_attention": (flops + attention_flops(pairs, shape)) / cpu / speed,
    }


def ratios(measured: dict[str, dict[str, float]]) -> dict[str, float]:
    """How many times less CPU per token ours takes; and our peak memory over TRL's."""

    def cost(configuration: str, dtype: str) -> float:
        return measured[f"{configuration}_{dtype}"]["cpu_seconds_per_token"]

    names = {"float32": "float32", "bf16": "bfloat16"}
    table = {
        f"{short}_vs_{other}": cost(other, dtype) / cost("ours", dtype)
        for short, dtype in names.items()
        for other in ("trl_default", "trl_best")
        if f"ours_{dtype}" in measured
    }
    peaks = {who: measured[f"{who}_float32"]["peak_memory_bytes"] for who in FULL}
    shares = {f"memory_vs_{who}": peaks["ours"] / peaks[who] for who in FULL[:2]}
    return {**table, **shares}


LABELS = {
    "trl_default": "TRL 1.16 default",
    "trl_best": "TRL 1.16 at its best",
    "ours": "prefline",
    "ours_limited": f"prefline, max_activation_gb = {LIMIT_GB}",
    "ours_lora": f"prefline, LoRA of rank {LORA_RANK}",
}


def markdown(measured: dict[str, dict[str, float]]) -> str:
    """The table that docs/measurements.md shows."""
    lines = [
        "| configuration | tokens per CPU-second | peak memory | model-FLOPs utilisation |",
        "|---|---|---|---|",
    ]
    for name, row in measured.items():
        plain, medium, _ = name.partition("_medium")
        who, _, dtype = plain.rpartition("_")
        label = f"{LABELS[who]}, {dtype}" + (', matmul_precision "medium"' if medium else "")
        lines.append(
            f"| {label} | {row['tokens_per_cpu_second']:,.1f} "
            f"| {row['peak_memory_bytes'] / 1e9:.2f} GB "
            f"| {row['utilisation_with_attention']:.0%} |"
        )
    return "\n".join(lines)


def in_own_process(case: str, row: str, pairs: int, folder: Path) -> dict[str, float]:
    """What `measure` gives in a fresh process with one thread."""
    command = [sys.executable, __file__, "--case", case, "--pairs", str(pairs)]
    command += ["--one", row, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def arguments() -> argparse.Namespace:
    """The command line."""
    every = dict.fromkeys(row for case in CASES.values() for row in case.with_bfloat16)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--pairs", type=int, help="pairs of the one epoch; at most 8 a step")
    parser.add_argument("--rows", nargs="+", choices=[*every, *EXTRA_ROWS])
    parser.add_argument("--one", nargs=2, metavar=("ROW", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args()


def machine() -> str:
    """The processor's name, as Linux says it."""
    said = Path("/proc/cpuinfo")
    lines = said.read_text().splitlines() if said.exists() else []
    flags = "with AVX-512" if any("avx512f" in x.split() for x in lines) else "without AVX-512"
    name = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "CPU")
    return f"{name} {flags}"


def kept_rows(case: Case, pairs: int) -> dict[str, dict[str, float]]:
    """Rows of an earlier run on this machine and as many pairs."""
    path = RESULTS / case.result
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if found.get("machine") != machine():
        return {}
    rows: dict[str, dict[str, float]] = found["configurations"]
    return {name: row for name, row in rows.items() if row["pairs"] == pairs}


def run_case(name: str, rows: Sequence[str] | None, pairs: int | None) -> None:
    """Measure a case's rows, print and write what they measured."""
    case = CASES[name]
    wanted = case.with_bfloat16 if has_bfloat16() else case.rows
    pairs = pairs or case.pairs
    measured = kept_rows(case, pairs) if rows else {}
    show(f"{name}: {pairs} real pairs, one epoch, one thread, one process per row; load average")
    show(f"at the start {os.getloadavg()[0]:.2f}: CPU-seconds are worth something below 1")
    with tempfile.TemporaryDirectory() as scratch:
        folder = prepared(name, Path(scratch))
        for row_name in rows or wanted:
            row = measured[row_name] = in_own_process(name, row_name, pairs, folder)
            show(
                f"{row_name:24} {row['tokens_per_cpu_second']:7.1f} tokens per CPU-second"
                f" {row['wall_seconds']:7.1f} s {row['peak_memory_bytes'] / 1e9:5.2f} GB"
                f" of the matrix products' {row['matmul_flops_per_second'] / 1e9:.1f} GFLOP/s:"
                f" {row['utilisation_with_attention']:.0%}"
                f" matmul error {row['matmul_relative_error']:.0e}"
            )
    measured = {row: measured[row] for row in [*wanted, *EXTRA_ROWS] if row in measured}
    result: dict[str, Any] = {"machine": machine(), "configurations": measured}
    if set(wanted) <= set(measured):
        result["ratios"] = ratios(measured)
        show(json.dumps(result["ratios"], indent=2))
    show(markdown(measured))
    write_result(RESULTS / case.result, result)


def main() -> None:
    """Run every case that can be run here."""
    options = arguments()
    if options.one:
        row, folder = options.one
        found = measure(options.case[0], row, options.pairs, Path(folder))
        show(json.dumps(found))
        return
    for name in options.case:
        run_case(name, options.rows, options.pairs)


if __name__ == "__main__":
    main()
