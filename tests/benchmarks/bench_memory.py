"""Peak memory of training, estimated and measured: a process a case, on a CPU.

`python tests/benchmarks/bench_memory.py MODEL` prints a table and writes
results/memory.json. A case is measured above what the process takes before it loads the model.
"""

import argparse
import importlib
import json
import random
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

CASES: dict[str, dict[str, Any]] = {
    "LoRA, one pair of 640 tokens": {"tokens": 640, "lora": {"rank": 16}},
    "LoRA, one pair of 1,024 tokens": {"tokens": 1024, "lora": {"rank": 16}},
    "full, one pair of 512 tokens": {"tokens": 512},
    "full, two pairs of 384 tokens": {"tokens": 384, "batch_size": 2},
    "full, one pair of 1,024 tokens": {"tokens": 1024},
    "full, recomputed, 1,024 tokens": {"tokens": 1024, "gradient_checkpointing": True},
    "full, bfloat16, int8 states, 128 tokens": {
        "tokens": 128,
        "weights": "bfloat16",
        "optimizer_states": "int8",
    },
}
RESULTS = Path(__file__).parent / "results" / "memory.json"


def measured(model: str, name: str) -> dict[str, float]:
    """Run in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, model, "--case", name],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_case(model: str, name: str) -> None:
    """A step of one case; prints what was said and what was taken."""
    import torch

    from evals.memory.shape import shape_of_model
    from evals.models.checkpoints import ModelSource
    from schemas.stage import Runtime
    from stages.training.checkpoints.adapters import trainable_start
    from stages.training.config import TrainingConfig
    from stages.training.engines.packed import PackedEngine
    from stages.training.losses.config import SigmoidLoss
    from stages.training.memory.allocator import return_what_is_freed
    from stages.training.memory.bill import Item, training_bill
    from stages.training.memory.sizes import pack_budget
    from stages.training.objectives.preference import PairExample, PreferenceObjective
    from stages.training.optimizer import adamw
    from stages.training.start import load_start

    torch.set_num_threads(1)
    settings = {"batch_size": 1, **CASES[name]}
    tokens = settings.pop("tokens")
    training = TrainingConfig.model_validate(settings)
    prompt, completion = 24, (tokens - 24) // 2
    if training.optimizer_states == "int8":
        importlib.import_module("bitsandbytes")
    idle = _peak()
    source = ModelSource(path=model)
    return_what_is_freed(training, torch.device("cpu"))
    start = load_start(source, training, Runtime(device="cpu"))
    policy = trainable_start(start, training.lora, model, 0)
    trained = [p for p in policy.parameters() if p.requires_grad]
    engine = PackedEngine(
        training.dtype, pack_budget(training, "cpu"), recompute=training.gradient_checkpointing
    )
    objective, optimizer = PreferenceObjective(SigmoidLoss(), engine), adamw(trained, training)
    words = random.Random(0)

    def drawn(count: int) -> list[int]:
        return [words.randrange(5, 40_000) for _ in range(count)]

    pairs = [
        PairExample(str(i), drawn(prompt), drawn(completion), drawn(completion))
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
    shape = shape_of_model(source)
    assert shape is not None
    said = training_bill(shape, training, Item(prompt, (completion, completion)), "cpu").total
    print(json.dumps({"estimated": said, "measured": _peak() - idle}))  # noqa: T201


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measure one case, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a model's folder")
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--only", nargs="*", choices=CASES, help="measure these")
    chosen = parser.parse_args()
    if chosen.case:
        return run_case(chosen.model, chosen.case)
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in chosen.only or CASES:
        found = measured(chosen.model, name)
        ratio = found["estimated"] / found["measured"]
        said, took = found["estimated"] / 1e9, found["measured"] / 1e9
        print(f"| {name} | {said:.2f} GB | {took:.2f} GB | {ratio:.2f} |", flush=True)  # noqa: T201
        rows[name] = {**found, "ratio": round(ratio, 3)}
        RESULTS.write_text(json.dumps(rows, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
