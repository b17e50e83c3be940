"""Sampling and judging with vLLM on a CPU, measured: `make bench-sample` (vLLM: `make vllm`).

A 26M-parameter llama with a 32k vocabulary and random weights, whose end token comes after some 40
tokens; first turns of real HH conversations. Every contender is a process of its own with one
thread and one engine, which is started and warmed up before the clock runs. They take turns, round
by round, so that load on the machine meets all of them.

Sampling: `ours` is the whole sample stage: prompts read, shards worked off with a checkpoint each,
tables and ids written, progress shown. `raw` calls `vllm.LLM.generate` once with the same token
ids, seeds and log-probabilities. `raw_plain` asks for less: no seeds, no log-probabilities, `n`
samples a request. `transformers` is the stage with the other engine, on fewer prompts.

Judging: every two of a prompt's completions in both orders. `ours` reads label tokens; `naive` lets
vLLM write a reply of 16 tokens to each order, and shares nothing between them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.benchmarks.bench_train import SHAPE  # noqa: E402
from tests.benchmarks.training_pairs import (  # noqa: E402
    END,
    RESULTS,
    hh_rows,
    make_model,
    make_tokenizer,
    show,
    write_result,
)

N, MAX_TOKENS, MEAN_TOKENS, REPLY_TOKENS = 4, 96, 40, 16
SAMPLING = ("ours", "raw", "raw_plain", "transformers")
JUDGING = ("judge_ours", "judge_naive")
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": str(ROOT),
}
Row = dict[str, Any]
Round = Callable[[int], dict[str, float]]


# What is sampled and judged


def save_model(folder: Path) -> None:
    """Tokenizer, chat template and weights."""
    from transformers import AutoTokenizer

    from evals.models.rendering import CHAT_TEMPLATES

    make_tokenizer(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHAT_TEMPLATES["role_colon"]
    tokenizer.save_pretrained(folder)
    model = make_model(SHAPE)
    let_end(model)
    model.save_pretrained(folder)


def let_end(model: Any) -> None:
    """Make the end token about as probable as a mean length of MEAN_TOKENS asks for.

    All embeddings get a common direction, which every hidden state then has too, and which changes
    no probability while the head is tied to them; the end token's embedding gets more of it.
    """
    import torch

    with torch.no_grad():
        weights = model.get_input_embeddings().weight
        common = torch.full_like(weights[0], 0.02)
        weights += common
        ids = torch.randint(2, len(weights), (8, 64))
        hidden = model.model(ids).last_hidden_state
        logits = model.lm_head(hidden)
        wanted = logits.logsumexp(-1).mean() - torch.log(torch.tensor(MEAN_TOKENS - 1.0))
        missing = wanted - logits[..., END].mean()
        weights[END] += missing / (hidden @ common).mean() * common


def prompts(count: int) -> list[Row]:
    """Rows of PROMPTS: first turns of HH, each once, of at most 200 words."""
    from schemas.ids import prompt_id

    texts = [row["prompt"].split("\n\nAssistant:")[0] for row in hh_rows()]
    texts = [text.removeprefix("\n\nHuman: ") for text in dict.fromkeys(texts)]
    rows = []
    for number, text in enumerate(t for t in texts if len(t.split()) <= 200):
        prompt = [{"role": "user", "content": text}]
        rows.append(
            {
                "prompt_id": prompt_id(prompt),  # type: ignore[arg-type]
                "prompt": prompt,
                "split": "train",
                "category": None,
                "source": "hh",
                "file": "harmless-base-test.jsonl.gz",
                "row": number,
            }
        )
    return rows[:count]


def comparisons(prompt_count: int) -> list[Any]:
    """Every two of N real replies beside each prompt."""
    from schemas.ids import comparison_id
    from schemas.labels import Comparison

    replies = [row["chosen"].strip() for row in hh_rows()]
    replies = [reply for reply in replies if 20 <= len(reply.split()) <= 120]
    found = []
    for number, row in enumerate(prompts(prompt_count)):
        texts = replies[number * N : (number + 1) * N]
        completions = [[{"role": "assistant", "content": text}] for text in texts]
        for a, b in combinations(completions, 2):
            name = comparison_id(row["prompt"], a, b)  # type: ignore[arg-type]
            found.append(Comparison(name, row["prompt_id"], row["prompt"], a, b))  # type: ignore[arg-type]
    return found


# The contenders, each in its own process: what a round does


def stage_round(name: str, folder: Path) -> Round:
    """The whole stage, with an engine that is kept from round to round."""
    from evals.models.checkpoints import ModelSource
    from evals.models.samplers import TransformersSampler, VllmSampler
    from pipeline.display.console import Console
    from pipeline.display.progress import LiveProgress
    from pipeline.runs.progress_file import WatchedProgress
    from schemas.parquet import write_table
    from schemas.stage import Runtime, StageContext
    from schemas.tables import PROMPTS
    from stages.sample import STAGE
    from stages.sample.config import SampleConfig
    from stages.shards import sampling

    runtime = Runtime(device="cpu", threads=1)
    source = ModelSource(path=str(folder))
    kind = TransformersSampler if name == "transformers" else VllmSampler
    sampler = kind().open(source, runtime)
    sampler.close = lambda: None
    vars(sampling)["open_sampler"] = lambda *_: sampler
    config = SampleConfig(model=source, n=N, max_tokens=MAX_TOKENS)

    def one(count: int) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as scratch, Path(os.devnull).open("w") as nowhere:
            ingest, output = Path(scratch, "ingest"), Path(scratch, "sample")
            output.mkdir()
            write_table(ingest / PROMPTS.file_name, PROMPTS, prompts(count))
            bars = LiveProgress(Console(file=nowhere, force_terminal=True))
            watched = WatchedProgress(bars, output / "progress.json")
            context = StageContext({"ingest": ingest}, output, runtime, watched)
            return timed(lambda: STAGE.run(config, context)["completion_tokens"])

    return one


def raw_llm(folder: Path, **options: Any) -> Any:
    """vLLM as it is called directly."""
    from vllm import LLM

    return LLM(
        str(folder),
        dtype="float32",
        enforce_eager=True,
        seed=0,
        distributed_executor_backend="uni",
        enable_chunked_prefill=False,
        max_num_batched_tokens=8192,
        generation_config="vllm",
        **options,
    )


def raw_round(name: str, folder: Path) -> Round:
    """One call with all prompts."""
    from vllm import SamplingParams

    from evals.models.checkpoints import ModelSource, load_tokenizer
    from evals.models.rendering import ChatRenderer
    from evals.models.samplers.rows import request_for

    llm = raw_llm(folder, logprobs_mode="raw_logprobs")
    renderer = ChatRenderer(load_tokenizer(ModelSource(path=str(folder))))
    common = {"temperature": 1.0, "max_tokens": MAX_TOKENS, "stop_token_ids": renderer.end_ids}

    def parameters(row: Row) -> list[Any]:
        if name == "raw_plain":
            return [SamplingParams(n=N, **common)]
        seeds = [request_for(row, k, 0).seed for k in range(N)]
        return [SamplingParams(seed=seed, logprobs=0, **common) for seed in seeds]

    def one(count: int) -> dict[str, float]:
        asked = [
            ({"prompt_token_ids": renderer.prompt_ids(row["prompt"])}, each)
            for row in prompts(count)
            for each in parameters(row)
        ]
        llm.reset_prefix_cache()

        def generate() -> int:
            found = llm.generate([a[0] for a in asked], [a[1] for a in asked], use_tqdm=False)
            return sum(len(sample.token_ids) for output in found for sample in output.outputs)

        return timed(generate)

    return one


def judge_round(name: str, folder: Path) -> Round:
    """All comparisons in both orders; also counts the prompt tokens, and those not shared."""
    from evals.judges import LlmJudge
    from evals.judges.scoring.vllm import VllmLabelScorer
    from schemas.stage import Runtime

    judge = LlmJudge.model_validate(
        {"model": {"path": str(folder)}, "engine": "vllm", "min_label_mass": 0.0}
    ).open(None, Runtime(device="cpu", threads=1))
    assert isinstance(judge, VllmLabelScorer)
    return ours_judging(judge) if name == "judge_ours" else naive_judging(judge, folder)


def ours_judging(judge: Any) -> Round:
    """As `label` asks."""
    from evals.judges.orders import judged_in_both_orders

    judge.judge(comparisons(1)[:1])  # starts the engine
    outputs: list[Any] = []
    inner = judge._engine.generate

    def generate(*asked: Any) -> list[Any]:
        found: list[Any] = inner(*asked)
        outputs.extend(found)
        return found

    judge._engine.generate = generate

    def one(count: int) -> dict[str, float]:
        asked = comparisons(count)
        outputs.clear()
        measured = timed(lambda: len(list(judged_in_both_orders(judge, asked))))
        return measured | read_tokens(outputs)

    return one


def naive_judging(judge: Any, folder: Path) -> Round:
    """A reply in words to each of both orders."""
    from vllm import SamplingParams

    llm = raw_llm(folder, enable_prefix_caching=False)
    parameters = SamplingParams(temperature=0, max_tokens=REPLY_TOKENS)

    def one(count: int) -> dict[str, float]:
        shown = [c for each in comparisons(count) for c in (each, each.swap())]
        outputs: list[Any] = []

        def generate() -> int:
            ids = [{"prompt_token_ids": judge.labels.prompt_ids(c)} for c in shown]
            outputs.extend(llm.generate(ids, parameters, use_tqdm=False))
            return len(outputs) // 2

        return timed(generate) | read_tokens(outputs)

    return one


def read_tokens(outputs: Sequence[Any]) -> dict[str, float]:
    """Tokens of all prompts, and how many of these vLLM has computed."""
    whole = sum(len(output.prompt_token_ids) for output in outputs)
    return {
        "prompt_tokens": whole,
        "computed_prompt_tokens": whole - sum(output.num_cached_tokens for output in outputs),
    }


def timed(work: Callable[[], int]) -> dict[str, float]:
    """What was made, tokens or comparisons, in how many seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    made = work()
    return {
        "made": made,
        "cpu_seconds": time.process_time() - cpu,
        "wall_seconds": time.perf_counter() - wall,
    }


def serve(name: str, folder: Path) -> None:
    """Start; then do a round of as many prompts as each line says."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # engines write there
    make = {**dict.fromkeys(JUDGING, judge_round), "raw": raw_round, "raw_plain": raw_round}
    one = make.get(name, stage_round)(name, folder)
    for line in sys.stdin:
        answers.write(json.dumps(one(int(line))) + "\n")
        answers.flush()


# The race


class Contender:
    """A process that does a round when asked."""

    def __init__(self, name: str, folder: str, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--one", name, folder],
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
        )

    def round(self, count: int) -> dict[str, float]:
        """Let it do one."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            show(self.log.read_text()[-3000:])
            sys.exit(f"{self.name}: ended before its round did")
        found: dict[str, float] = json.loads(line)
        return found

    def stop(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def race(names: Sequence[str], folder: str, rounds: int, count: int) -> dict[str, dict[str, float]]:
    """Sums over all rounds, by contender; every other round goes the other way round."""
    contenders = [Contender(name, folder, Path(folder, f"{name}.log")) for name in names]
    total: dict[str, dict[str, float]] = {name: {} for name in names}
    try:
        for one in contenders:
            one.round(1)  # warms up
        for number in range(rounds):
            for one in contenders[:: 1 if number % 2 == 0 else -1]:
                few = one.name == "transformers"
                found = one.round(max(1, count // 8) if few else count)
                for key, value in found.items():
                    total[one.name][key] = total[one.name].get(key, 0) + value
                show(
                    f"  {one.name:14}{found['made']:>8,.0f} made {found['wall_seconds']:8.1f} s "
                    f"{found['cpu_seconds']:8.1f} CPU-s"
                )
    finally:
        for one in contenders:
            one.stop()
    return total


def ratios(
    sampling: Mapping[str, Mapping[str, float]], judging: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """Sampling as a multiple of the other's speed, judging as one of the other's cost."""

    def speed(name: str, seconds: str = "wall_seconds") -> float:
        return sampling[name]["made"] / sampling[name][seconds]

    def cost(what: str) -> float:
        return judging["judge_ours"][what] / judging["judge_naive"][what]

    return {
        "tokens_per_second_vs_raw_vllm": speed("ours") / speed("raw"),
        "tokens_per_cpu_second_vs_raw_vllm": speed("ours", "cpu_seconds")
        / speed("raw", "cpu_seconds"),
        "tokens_per_second_vs_raw_vllm_without_seeds_and_logprobs": speed("ours")
        / speed("raw_plain"),
        "tokens_per_second_vs_transformers": speed("ours") / speed("transformers"),
        "judge_prompt_tokens_vs_naive": cost("computed_prompt_tokens"),
        "judge_cpu_seconds_vs_naive": cost("cpu_seconds"),
    }


def markdown(
    sampling: Mapping[str, Mapping[str, float]], judging: Mapping[str, Mapping[str, float]]
) -> str:
    """The tables that the README shows."""
    lines = ["| sampling | tokens per second | per CPU-second |", "|---|---|---|"]
    for name, row in sampling.items():
        wall, cpu = row["made"] / row["wall_seconds"], row["made"] / row["cpu_seconds"]
        lines.append(f"| {LABELS[name]} | {wall:,.0f} | {cpu:,.0f} |")
    lines += ["", "| judging, per comparison | prompt tokens computed | CPU-seconds |"]
    lines.append("|---|---|---|")
    for name, row in judging.items():
        tokens, cpu = row["computed_prompt_tokens"] / row["made"], row["cpu_seconds"] / row["made"]
        lines.append(f"| {LABELS[name]} | {tokens:,.0f} | {cpu:.3f} |")
    return "\n".join(lines)


LABELS = {
    "ours": "`sample`, vLLM",
    "raw": "vLLM directly, with seeds and log-probabilities",
    "raw_plain": "vLLM directly, without",
    "transformers": "`sample`, transformers",
    "judge_ours": "label tokens, shared prefixes",
    "judge_naive": f"two replies of {REPLY_TOKENS} tokens",
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=512, help="prompts a round, sampled 4 times")
    parser.add_argument("--judged", type=int, default=12, help="prompts a round with 6 comparisons")
    parser.add_argument("--dry", action="store_true", help="write no result file")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Race, print, and write what was measured."""
    options = arguments()
    if options.one:
        serve(options.one[0], Path(options.one[1]))
        return
    show(f"load average at the start {os.getloadavg()[0]:.2f}; wall seconds want it below 1")
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder))
        sampling = race(SAMPLING, folder, options.rounds, options.prompts)
        judging = race(JUDGING, folder, options.rounds, options.judged)
    found = ratios(sampling, judging)
    show(markdown(sampling, judging))
    show(json.dumps(found, indent=2))
    if not options.dry:
        result = {"rounds": options.rounds, "sampling": sampling, "judging": judging}
        write_result(RESULTS / "sample.json", {**result, "ratios": found})


if __name__ == "__main__":
    main()
