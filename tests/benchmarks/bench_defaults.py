"""Settings of a training on a CPU that nobody declares, measured: `make bench-defaults`.

Tokens per second of forward and backward passes of DPO over trees in float32, by the tokens of a
pack, by threads and by `matmul_precision`, one of them at a time. Two shapes: `tiny`, as the demos
train, with short pairs, and three layers of SmolLM2-135M's with pairs as UltraFeedback has them.
The variants take turns, round by round, and each has its best round. Packs and precisions are
compared in CPU seconds on one thread, so that other work on the machine counts little; threads in
seconds that pass, with the machine's load beside them.

What a pass keeps grows with its pack: the default is the smallest that is at most a tenth slower
than the fastest, on either shape (`stages.training.memory.sizes`). The default itself is measured
twice, among packs and among precisions; how far apart the two are says what a difference is worth.
Writes results/defaults.json.
"""

import argparse
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from schemas.stage import SilentProgress  # noqa: E402
from stages.training.config import TrainingConfig  # noqa: E402
from stages.training.data.packing import tree_size  # noqa: E402
from stages.training.engines.choose import open_engine  # noqa: E402
from stages.training.engines.precision import matmul_precision  # noqa: E402
from stages.training.losses.config import SigmoidLoss  # noqa: E402
from stages.training.memory.sizes import pack_budget  # noqa: E402
from stages.training.objectives.preference import (  # noqa: E402
    PairExample,
    PreferenceObjective,
)
from tests.benchmarks.training_pairs import RESULTS, make_model, show, write_result  # noqa: E402

BUDGETS = (512, 1024, 2048, 4096)
PRECISIONS = ("highest", "high", "medium")
NEAR = 0.1

# What a model has, the tokens that prompts and completions have at most, and pairs of a step.
SHAPES: dict[str, tuple[dict[str, Any], tuple[int, int], int]] = {
    "tiny": (
        {
            "vocab_size": 2048,
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
        },
        (60, 40),
        64,
    ),
    "smollm2": (
        {
            "vocab_size": 4096,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 3,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "head_dim": 64,
            "max_position_embeddings": 2048,
        },
        (160, 300),
        10,
    ),
}


def step_pairs(shape: str) -> list[PairExample]:
    """A step's pairs, of random tokens."""
    sizes, (prompt, completion), count = SHAPES[shape]
    numbers = random.Random(7)

    def tokens(most: int) -> list[int]:
        drawn = numbers.randint(most // 4, most)
        return [numbers.randrange(5, sizes["vocab_size"]) for _ in range(drawn)]

    return [
        PairExample(str(i), tokens(prompt), tokens(completion), tokens(completion))
        for i in range(count)
    ]


Step = Callable[[], None]


def step_of(model: Any, pairs: Sequence[PairExample], budget: int | None = None) -> Step:
    """A step's passes, with packs of so many tokens."""
    config = TrainingConfig(tokens_per_micro_batch=budget, batch_size=len(pairs))
    engine = open_engine(model, config, SilentProgress())
    objective = PreferenceObjective(SigmoidLoss(), engine)

    def run() -> None:
        model.zero_grad()
        for micro in objective.micro_batches(pairs, len(pairs)):
            objective.accumulate(model, micro, 1 / len(pairs))

    return run


def compared(
    variants: Mapping[Any, Callable[[], float]], tokens: int, rounds: int
) -> dict[str, float]:
    """Tokens per second of each variant's best round; a variant says what a round took."""
    best = dict.fromkeys(variants, float("inf"))
    for _ in range(rounds):
        for name, run in variants.items():
            best[name] = min(best[name], run())
    return {str(name): round(tokens / seconds, 1) for name, seconds in best.items()}


def cpu_seconds(step: Step, threads: int = 1) -> float:
    """That a step takes on so many threads."""
    return _timed(step, threads, time.process_time)


def wall_seconds(step: Step, threads: int) -> float:
    """That pass in a step on so many threads."""
    return _timed(step, threads, time.perf_counter)


def _timed(step: Step, threads: int, clock: Callable[[], float]) -> float:
    torch.set_num_threads(threads)
    started = clock()
    step()
    return clock() - started


def best_default(found: Mapping[str, Any]) -> int:
    """Of what was measured of a shape, the smallest pack that is nearly as fast as the fastest.

    Today's pack counts by the better of its two measurements.
    """
    speeds = {int(n): v for n, v in found["tokens_per_cpu_second_by_pack"].items()}
    usual = pack_budget(TrainingConfig(), "cpu")
    again = found["tokens_per_cpu_second_by_precision"][TrainingConfig().matmul_precision]
    speeds[usual] = max(speeds[usual], again)
    fastest = max(speeds.values())
    return min(n for n, speed in speeds.items() if speed >= (1 - NEAR) * fastest)


def measured(shape: str, rounds: int) -> dict[str, Any]:
    """Of one shape, by the tokens of a pack, by threads and by precision."""
    torch.set_num_threads(1)
    model, pairs = make_model(SHAPES[shape][0]), step_pairs(shape)
    tokens = sum(map(tree_size, pairs))
    steps = {budget: step_of(model, pairs, budget) for budget in BUDGETS}
    usual = step_of(model, pairs)
    usual()  # what is made at the first pass alone
    packs = {n: lambda step=step: cpu_seconds(step) for n, step in steps.items()}
    cores = range(1, (os.cpu_count() or 1) + 1)
    threads = {n: lambda n=n: wall_seconds(usual, n) for n in cores}

    def precisely(precision: str) -> float:
        with matmul_precision(precision):
            return cpu_seconds(usual)

    precisions = {name: lambda name=name: precisely(name) for name in PRECISIONS}
    found = {
        "tokens": tokens,
        "tokens_per_cpu_second_by_pack": compared(packs, tokens, rounds),
        "tokens_per_second_by_threads": compared(threads, tokens, rounds),
        "tokens_per_cpu_second_by_precision": compared(precisions, tokens, rounds),
        "load_average": round(os.getloadavg()[0], 1),
    }
    for name, said in found.items():
        show(f"{shape}: {name}: {said}")
    return found


def main() -> None:
    """Measure all, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="that each variant is measured")
    rounds = parser.parse_args().rounds
    result: dict[str, Any] = {
        "day": str(datetime.now(UTC).date()),
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "rounds": rounds,
        "shapes": {shape: measured(shape, rounds) for shape in SHAPES},
    }
    result["cpu_seconds"] = round(time.process_time(), 1)
    write_result(RESULTS / "defaults.json", result)


if __name__ == "__main__":
    main()
