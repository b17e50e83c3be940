"""The steps of the sample stage: choose prompts, work them off shard by shard, join."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from evals.models.checkpoints import ModelSource
from schemas.errors import ConfigError, DataError
from schemas.stage import StageContext
from schemas.tables import DECIDING, PROMPTS, REJECTS
from stages.sample.config import SampleConfig
from stages.sample.given import take_outputs
from stages.shards.executor import work_off
from stages.shards.job import Counts
from stages.shards.results import Results
from stages.shards.sampling import TABLES, SampleJob
from stages.shards.work_file import WorkFile, in_shards, sorted_rows


def run(config: SampleConfig, context: StageContext) -> Mapping[str, int]:
    """Sample every chosen prompt `n` times.

    Raises:
        ConfigError: neither [sft] nor `model` names a policy.
        DataError: no prompts, or none that fits the model's context; or a file of outputs that
            cannot be read.
    """
    if config.outputs:
        return take_outputs(config, context)
    results = Results(context.output, TABLES)
    work = WorkFile(context.output / "work.parquet")
    for note in config.notes:
        context.progress.note(note)
    policy = _policy(config, context)
    if not work.is_sound:
        _choose(config, context, work)
    job = SampleJob(
        config.sampler,
        policy,
        config.settings,
        config.seed,
        config.n,
        context.runtime,
        work.path.resolve(),
    )
    _sample(job, context, results)
    counts = results.join(work)
    context.discard(results.folder, work.path, work.seal)
    if not counts["completions"]:
        raise DataError(
            f"none of {counts['prompts']} prompts leaves room for sample.max_tokens "
            f"{config.max_tokens} in the model's context "
            f"({context.output / REJECTS.file_name} says how long they are); lower max_tokens"
        )
    return counts


def _choose(config: SampleConfig, context: StageContext, work: WorkFile) -> None:
    """Copy the prompts to sample, sorted by id, into the work file.

    Ids are hashes, so the first so many of them are a random choice that neither the order of
    the file nor the prompts left out can change.
    """
    path = context.input("ingest", PROMPTS.file_name)
    opened = [("split", "in", DECIDING)]
    rows = pq.read_table(path, columns=["prompt_id", "split"], filters=opened)
    rows = rows.sort_by("prompt_id")
    limits = {"train": config.max_prompts, "dev": config.max_dev_prompts}
    chosen = [
        rows.filter(pc.equal(rows["split"], split)).slice(0, limit)["prompt_id"]
        for split, limit in limits.items()
    ]
    ids = pa.chunked_array([chunk for ids in chosen for chunk in ids.chunks], pa.string())
    if not len(ids):
        raise DataError(
            f"{path}: no prompts to sample among its {rows.num_rows} train and dev rows"
        )
    batches = sorted_rows(path, PROMPTS, "prompt_id", ids, splits=DECIDING)
    work.write(PROMPTS, in_shards(batches, "prompt_id", config.shard_size))


def _sample(job: SampleJob, context: StageContext, results: Results) -> None:
    work, n = WorkFile(job.work_file), job.n
    done = results.done()
    missing = [shard for shard in range(len(work)) if shard not in done]
    with context.progress.task("sampling", work.rows() * n, "completions") as task:
        tokens = 0

        def advance(counts: Counts) -> None:
            nonlocal tokens
            tokens += counts["completion_tokens"]
            task.advance(counts["completions"] + counts["rejects"])
            task.metrics({"tokens": tokens})

        for shard in done:
            task.advance(results.counts(shard)["prompts"] * n)
        work_off(job, missing, context.runtime, advance)


def _policy(config: SampleConfig, context: StageContext) -> ModelSource:
    if config.model is not None:
        return config.model
    if not context.has("sft"):
        raise ConfigError(
            "sample.model is missing: the recipe has no [sft], so name the policy to sample from"
        )
    return ModelSource(path=str(context.input("sft", "model")))
