"""DPO training on one GPU, measured against TRL where it is installed: `make bench-train_gpu`.

The shape of Llama-3.2-1B with random weights, bfloat16 autocast over float32 master weights, real
HH pairs of at most 2048 tokens, 8 pairs a step, full fine-tuning and LoRA of rank 32 on all linear
layers, every configuration in a process of its own. The first steps are not timed. Reference
log-probabilities are known beforehand in "ours" and in "trl_best"; TRL's default computes them in
every step. "trl_best": precomputed, no gradient checkpointing, FlashAttention and Liger's layer
kernels where they are installed (TRL 1.16 has no padding-free DPO: it warns and pads).

The gpu tests of the attention kernels run first, in the same call. The whole takes no more than
`--minutes`; a row that fails, does not fit the card or has no time left is in the result with the
reason. Needs torch, transformers, pyarrow, numpy and pydantic; peft for LoRA; TRL and datasets for
its rows; pytest for the tests. What is not there is left out and named. `--smoke` runs our rows on
a tiny shape on any machine, and writes nothing.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.benchmarks.training_pairs import (  # noqa: E402
    BPE_WORDS,
    PAIRS_PER_STEP,
    RESULTS,
    make_model,
    make_tokenizer,
    num_flops,
    num_tokens,
    show,
    tokenized,
    write_result,
)

UNTIMED_STEPS, LORA_RANK = 4, 32
LEAST_SECONDS, MOST_FOR_TESTS = 20, 120
LLAMA_1B: dict[str, Any] = {
    "vocab_size": 128_256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "rope_theta": 500_000.0,
}
TINY = {
    **LLAMA_1B,
    "vocab_size": BPE_WORDS,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
OURS = ("ours_full", "ours_full_checkpointed", "ours_lora")
TRL = ("trl_default_full", "trl_best_full", "trl_default_lora", "trl_best_lora")


def has(package: str) -> bool:
    """Whether a package is installed."""
    return importlib.util.find_spec(package) is not None


def rows_here() -> list[str]:
    """Configurations that the installed packages can run."""
    trl = TRL if has("trl") and has("datasets") else ()
    return [name for name in (*OURS, *trl) if has("peft") or not name.endswith("lora")]


def matmul_flops(device: str, size: int) -> float:
    """Floating point operations per second of a square bfloat16 matrix product."""
    import torch

    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    for _ in range(3):
        a @ b
    _wait(device)
    started = time.perf_counter()
    for _ in range(10):
        a @ b
    _wait(device)
    return 10 * 2 * size**3 / (time.perf_counter() - started)


def _wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def train_ours(
    model: Any, pairs: list[dict[str, Any]], folder: Path, *, recompute: bool, untimed: int
) -> float:
    """Wall seconds of the steps of one epoch of prefline's loop, but for the first `untimed`."""
    from schemas.stage import SilentProgress, StageContext
    from stages.training.config import TrainingConfig
    from stages.training.engines.choose import PackedEngine, open_engine
    from stages.training.loop import TrainingRun, train
    from stages.training.losses.config import SigmoidLoss
    from stages.training.objectives.preference import PairExample, PreferenceObjective

    config = TrainingConfig(
        batch_size=PAIRS_PER_STEP,
        dtype="bfloat16",
        save_every=None,
        gradient_checkpointing=recompute,
    )
    items = [
        PairExample(str(i), pair["prompt"], pair["chosen"], pair["rejected"])
        for i, pair in enumerate(pairs)
    ]
    engine = open_engine(model, config, SilentProgress())
    assert isinstance(engine, PackedEngine)
    objective = PreferenceObjective(SigmoidLoss(), engine)
    run = TrainingRun(model, objective, items, [], config, StageContext({}, folder), "bench")
    rows = [row for row in train(run) if "num_tokens" in row][untimed:]
    seconds = sum(row["num_tokens"] / row["tokens_per_second"] for row in rows)
    # Steps are drawn in another order than the pairs stand in: seconds per token, times tokens.
    return seconds / sum(row["num_tokens"] for row in rows) * num_tokens(timed(pairs, untimed))


def train_theirs(
    model: Any, pairs: list[dict[str, Any]], tokenizer: Any, folder: Path, *, best: bool, lora: bool
) -> float:
    """Wall seconds of the timed steps of TRL."""
    import copy

    import torch

    from tests.benchmarks.trl_training import train_trl

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    settings: dict[str, Any] = {"bf16": True, "max_length": 2048}
    if best:
        settings |= {"precompute_ref_log_probs": True, "gradient_checkpointing": False}
        settings |= {"use_liger_kernel": has("liger_kernel")}
        if has("flash_attn"):
            model.set_attn_implementation("flash_attention_2")
    adapter = None
    if lora:
        from peft import LoraConfig

        adapter = LoraConfig(
            r=LORA_RANK, lora_alpha=LORA_RANK, target_modules="all-linear", task_type="CAUSAL_LM"
        )
    reference = None if lora else copy.deepcopy(model)
    (seconds,) = train_trl(
        model,
        tokenizer,
        pairs,
        settings,
        folder,
        clocks=(clock,),
        untimed_steps=UNTIMED_STEPS,
        reference=reference,
        peft_config=adapter,
    )
    return seconds


def timed(pairs: list[dict[str, Any]], untimed: int) -> list[dict[str, Any]]:
    """The pairs of the steps that are timed."""
    return pairs[untimed * PAIRS_PER_STEP :]


def measure(
    row: str, pairs: list[dict[str, Any]], tokenizer: Any, shape: Mapping[str, Any], device: str
) -> dict[str, float]:
    """One configuration, in this process."""
    import torch

    untimed = UNTIMED_STEPS if device == "cuda" else 0
    lora = row.endswith("lora")
    peak_flops = matmul_flops(device, 8192 if device == "cuda" else 256)
    model = make_model(shape, device)
    with tempfile.TemporaryDirectory() as scratch:
        if row.startswith("ours"):
            if lora:
                from stages.training.checkpoints.adapters import add_lora
                from stages.training.config import LoraConfig

                model = add_lora(model, LoraConfig(rank=LORA_RANK, alpha=LORA_RANK), seed=0)
            recompute = row.endswith("checkpointed")
            seconds = train_ours(model, pairs, Path(scratch), recompute=recompute, untimed=untimed)
        else:
            best = row.startswith("trl_best")
            seconds = train_theirs(model, pairs, tokenizer, Path(scratch), best=best, lora=lora)
    tokens = num_tokens(timed(pairs, untimed))
    flops = num_flops(timed(pairs, untimed), shape, 4 if lora else 6)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    return {
        "pairs": len(timed(pairs, untimed)),
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "peak_memory_bytes": peak,
        "matmul_flops_per_second": peak_flops,
        "model_flops_utilisation": flops / seconds / peak_flops,
    }


def ratios(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Tokens per second as a multiple of TRL's, and our peak memory over TRL's."""
    found = {}
    for kind in ("full", "lora"):
        ours = measured.get(f"ours_{kind}")
        for who in ("default", "best"):
            theirs = measured.get(f"trl_{who}_{kind}")
            if ours and theirs and "failed" not in {**ours, **theirs}:
                speed = ours["tokens_per_second"] / theirs["tokens_per_second"]
                memory = ours["peak_memory_bytes"] / theirs["peak_memory_bytes"]
                found[f"{kind}_vs_trl_{who}"] = speed
                found[f"{kind}_memory_vs_trl_{who}"] = memory
    return found


def in_own_process(row: str, pairs: int, folder: str, seconds: float) -> dict[str, Any]:
    """What `measure` gives in a fresh process; `failed` says why where it gives nothing."""
    command = [sys.executable, __file__, "--pairs", str(pairs), "--one", row, folder]
    return answer_of(command, seconds)


def answer_of(command: list[str], seconds: float) -> dict[str, Any]:
    """The JSON of a program's last line, or `failed` with the reason in a few words."""
    if seconds < LEAST_SECONDS:
        return {"failed": "no time was left"}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after the {seconds:.0f} s that were left"}
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        full = any("OutOfMemoryError" in line or "out of memory" in line for line in said)
        last = said[-1][:300] if said else f"exit code {done.returncode}"
        return {"failed": "does not fit the card's memory" if full else last}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def kernel_tests(seconds: float) -> str:
    """The outcome of the gpu tests of the attention kernels, in pytest's own last line."""
    if not has("pytest"):
        return "not run: pytest is not installed"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, "tests/stages/training/test_tree_attention.py"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {seconds:.0f} s"
    if done.returncode:
        show(done.stdout[-3000:])
    return (done.stdout.strip().splitlines() or ["nothing was said"])[-1].strip("= ")


def version_of(package: str) -> str | None:
    """The version that is installed, if any."""
    return importlib.metadata.version(package) if has(package) else None


def describe(name: str, row: Mapping[str, Any]) -> str:
    """A row in one line."""
    if "failed" in row:
        return f"{name:24} {row['failed']}"
    return (
        f"{name:24} {row['tokens_per_second']:9.0f} tokens per second"
        f" {row['peak_memory_bytes'] / 1e9:6.1f} GB MFU {row['model_flops_utilisation']:.0%}"
    )


def smoke() -> None:
    """Our rows on a tiny shape and four pairs, on the CPU: does everything run?"""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        make_tokenizer(Path(folder))
        tokenizer = AutoTokenizer.from_pretrained(folder)
        pairs = tokenized(tokenizer, 4, 512)
        for name in rows_here():
            if name in OURS:
                show(describe(name, measure(name, pairs, tokenizer, TINY, "cpu")))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=256, help="pairs of the one epoch; 8 a step")
    parser.add_argument("--minutes", type=float, default=9.5, help="most that the whole may take")
    parser.add_argument("--smoke", action="store_true", help="tiny, on a CPU, nothing written")
    parser.add_argument("--one", nargs=2, metavar=("ROW", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run every configuration in a process of its own, print and write what they measured."""
    options = arguments()
    if options.smoke:
        smoke()
        return
    import torch

    if not torch.cuda.is_available():
        show("bench-train_gpu: torch sees no GPU; run it on a machine with one, or with --smoke")
        sys.exit(2)
    if options.one:
        from transformers import AutoTokenizer

        name, folder = options.one
        tokenizer = AutoTokenizer.from_pretrained(folder)
        pairs = tokenized(tokenizer, options.pairs, LLAMA_1B["max_position_embeddings"])
        show(json.dumps(measure(name, pairs, tokenizer, LLAMA_1B, "cuda")))
        return
    ends = time.monotonic() + 60 * options.minutes
    device = torch.cuda.get_device_name()
    tests = kernel_tests(MOST_FOR_TESTS)
    show(f"gpu tests of the attention kernels: {tests}")
    missing = [name for name in ("peft", "trl", "datasets") if not has(name)]
    if missing:
        show(f"rows that need {', '.join(missing)} are left out: not installed")
    show(f"{options.pairs} real HH pairs on {device}, {UNTIMED_STEPS} untimed steps, one process")
    show(f"per row; rows: {', '.join(rows_here())}")
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        make_tokenizer(Path(folder))
        for name in rows_here():
            row = in_own_process(name, options.pairs, folder, ends - time.monotonic())
            measured[name] = row
            show(describe(name, row))
    result = {
        "device": device,
        "torch": torch.__version__,
        "trl": version_of("trl"),
        "kernel_tests": tests,
        "configurations": measured,
        "ratios": ratios(measured),
    }
    show(json.dumps(result["ratios"], indent=2))
    short = re.sub(r"[^a-z0-9]+", "-", device.lower().removeprefix("nvidia ")).strip("-")
    write_result(RESULTS / f"train-{short}.json", result)


if __name__ == "__main__":
    main()
