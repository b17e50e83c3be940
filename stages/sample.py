"""Sample completions of the policy, to be compared and learned from.

Work is split into shards of prompts. A finished shard is on disk, a killed run loses the one in
flight, and a shard's samples do not depend on the shards before it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from evals.models.checkpoints import ModelSource
from evals.models.samplers import (
    AutoSampler,
    SampledCompletion,
    SamplerConfig,
    SampleRequest,
    SamplingSettings,
    Unsampled,
    open_sampler,
)
from evals.models.samplers.rows import completion_row, request_for
from schemas.errors import ConfigError, DataError
from schemas.stage import Stage, StageContext
from schemas.work import Known, Work, at_most

if TYPE_CHECKING:
    from pathlib import Path

    from evals.models.samplers import Sampler
    from schemas.parquet import ShardedTable


class SampleConfig(SamplingSettings):
    """How many completions of which prompts, and from what distribution."""

    sampler: SamplerConfig = Field(AutoSampler(), description="the engine")
    model: ModelSource | None = Field(
        None, description="the policy, where the recipe has no [sft]; null takes what [sft] made"
    )
    n: int = Field(4, ge=1, description="completions of each prompt")
    max_prompts: int | None = Field(
        None, ge=1, description="training prompts to sample; null takes all"
    )
    max_test_prompts: int | None = Field(
        0, ge=0, description="held-out prompts to sample, for held-out pairs; null takes all"
    )
    shard_size: int = Field(
        64, ge=1, description="prompts between two checkpoints; a killed run repeats at most these"
    )

    @property
    def settings(self) -> SamplingSettings:
        """The distribution alone."""
        return SamplingSettings(**{n: getattr(self, n) for n in SamplingSettings.model_fields})


def run(config: SampleConfig, context: StageContext) -> Mapping[str, int]:
    """Sample every chosen prompt `n` times.

    Raises:
        ConfigError: neither [sft] nor `model` names a policy.
        DataError: no prompts, or none that fits the model's context.
    """
    from schemas.parquet import ShardedTable
    from schemas.tables import COMPLETIONS, REJECTS

    prompts = _chosen_prompts(config, context.input("ingest", "prompts.parquet"))
    completions = ShardedTable(context.output, COMPLETIONS)
    rejects = ShardedTable(context.output, REJECTS)
    done = _done(completions, rejects)
    wanted = [(prompt, index) for prompt in prompts for index in range(config.n)]
    if any((prompt["prompt_id"], index) not in done for prompt, index in wanted):
        _sample_missing(config, context, prompts, done, completions, rejects)
    return _finish(config, context, len(prompts), completions, rejects)


def _finish(
    config: SampleConfig,
    context: StageContext,
    prompts: int,
    completions: "ShardedTable",
    rejects: "ShardedTable",
) -> dict[str, int]:
    """Join the shards into tables and count."""
    import pyarrow.compute as pc

    from schemas.parquet import read_table
    from schemas.tables import COMPLETIONS

    completions.merge(["prompt_id", "sample_index"])
    rejected = rejects.merge(["raw"])
    table = read_table(completions.path, COMPLETIONS)
    if not table.num_rows:
        raise DataError(
            f"none of {prompts} prompts leaves room for sample.max_tokens {config.max_tokens} in "
            f"the model's context ({context.output / 'rejects.parquet'} says how long they are); "
            "lower max_tokens"
        )
    finish = table["finish_reason"]
    return {
        "prompts": prompts,
        "completions": table.num_rows,
        "rejects": rejected,
        "finish_stop": int(pc.sum(pc.equal(finish, "stop")).as_py()),
        "finish_length": int(pc.sum(pc.equal(finish, "length")).as_py()),
        "completion_tokens": int(pc.sum(table["num_tokens"]).as_py()),
    }


def _chosen_prompts(config: SampleConfig, path: "Path") -> list[dict[str, Any]]:
    """The prompts to sample, sorted by id.

    Ids are hashes, so the first so many of them are a random choice that neither the order of
    the file nor the prompts left out can change.
    """
    from schemas.parquet import read_rows
    from schemas.tables import PROMPTS

    limits = {"train": config.max_prompts, "test": config.max_test_prompts}
    rows = sorted(read_rows(path, PROMPTS), key=lambda row: str(row["prompt_id"]))
    chosen = [
        row
        for split, limit in limits.items()
        for row in [r for r in rows if r["split"] == split][:limit]
    ]
    if not chosen:
        raise DataError(f"{path}: no prompts to sample among its {len(rows)} rows")
    return sorted(chosen, key=lambda row: str(row["prompt_id"]))


def _done(completions: "ShardedTable", rejects: "ShardedTable") -> set[tuple[str, int]]:
    """(prompt_id, sample_index) of what an earlier, killed run has finished."""
    finished = {(str(p), int(i)) for p, i in completions.done("prompt_id", "sample_index")}
    for (raw,) in rejects.done("raw"):
        row = json.loads(raw)
        finished.add((row["prompt_id"], row["sample_index"]))
    return finished


def _sample_missing(
    config: SampleConfig,
    context: StageContext,
    prompts: Sequence[dict[str, Any]],
    done: set[tuple[str, int]],
    completions: "ShardedTable",
    rejects: "ShardedTable",
) -> None:
    total = len(prompts) * config.n
    sampler = open_sampler(config.sampler, _policy(config, context), context.runtime)
    try:
        with context.progress.task("sampling", total, "completions") as task:
            for start in range(0, len(prompts), config.shard_size):
                shard = prompts[start : start + config.shard_size]
                missing = [
                    (prompt, index)
                    for prompt in shard
                    for index in range(config.n)
                    if (prompt["prompt_id"], index) not in done
                ]
                if missing:
                    kept, dropped = _sample_shard(config, sampler, missing)
                    if kept:
                        completions.append(kept)
                    if dropped:
                        rejects.append(dropped)
                task.advance(len(shard) * config.n)
    finally:
        sampler.close()


def _policy(config: SampleConfig, context: StageContext) -> ModelSource:
    if config.model is not None:
        return config.model
    if not context.has("sft"):
        raise ConfigError(
            "sample.model is missing: the recipe has no [sft], so name the policy to sample from"
        )
    return ModelSource(path=str(context.input("sft", "model")))


def _sample_shard(
    config: SampleConfig, sampler: "Sampler", missing: Sequence[tuple[dict[str, Any], int]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the completions table and of the rejects table."""
    settings = config.settings
    requests = [request_for(prompt, index, config.seed) for prompt, index in missing]
    answers = sampler.sample(requests, settings)
    kept, dropped = [], []
    for (prompt, index), request, answer in zip(missing, requests, answers, strict=True):
        if isinstance(answer, SampledCompletion):
            kept.append(completion_row(prompt, index, request, answer, sampler, settings))
        else:
            dropped.append(_reject_row(prompt, index, request, answer))
    return kept, dropped


def _reject_row(
    prompt: Mapping[str, Any], index: int, request: SampleRequest, answer: Unsampled
) -> dict[str, Any]:
    raw = {
        "prompt_id": prompt["prompt_id"],
        "sample_index": index,
        "seed": request.seed,
        "prompt": prompt["prompt"],
    }
    return {
        "table": "completions",
        "reason": answer.reason,
        "detail": answer.detail,
        "file": prompt["file"],
        "row": prompt["row"],
        "raw": json.dumps(raw, ensure_ascii=False),
    }


def _work(config: SampleConfig, known: Known) -> Work:
    prompts = known.get("ingest", {}).get("prompts")
    if config.max_prompts is not None and config.max_test_prompts is not None:
        prompts = at_most(prompts, config.max_prompts + config.max_test_prompts)
    if prompts is None:
        return Work("completions")
    completions = prompts * config.n
    counts = {"prompts": prompts, "completions": completions}
    return Work("completions", completions, completions * config.max_tokens, counts)


STAGE = Stage(
    name="sample",
    summary="Sample completions of the policy",
    config=SampleConfig,
    inputs=("ingest", "sft"),
    run=run,
    files=lambda config: config.model.files() if config.model else (),
    work=_work,
)
