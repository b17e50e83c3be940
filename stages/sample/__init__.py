"""Sample completions of the policy, to be compared and learned from."""

from collections.abc import Sequence
from pathlib import Path

from evals.models.contenders import OutputsFile
from schemas.stage import Stage, called_later
from schemas.work import Known, Work, at_most
from stages.sample.config import SampleConfig


def _files(config: SampleConfig) -> Sequence[Path]:
    sources = [OutputsFile(outputs=path) for path in config.outputs]
    taken = [path for source in sources for path in source.files()]
    return [*taken, *(config.model.files() if config.model and not taken else ())]


def _work(config: SampleConfig, known: Known) -> Work:
    if config.outputs:
        return Work("completions", None, 0)
    found = known.get("ingest", {})
    limits = {"train": config.max_prompts, "dev": config.max_dev_prompts}
    splits = [at_most(found.get(f"prompts/{name}"), n) for name, n in limits.items()]
    by_split = [n for n in splits if n is not None]
    if len(by_split) < len(limits):
        return Work("completions")
    prompts = sum(by_split)
    completions = prompts * config.n
    counts = {"prompts": prompts, "completions": completions}
    return Work("completions", completions, completions * config.max_tokens, counts)


STAGE = Stage(
    name="sample",
    summary="Sample completions of the policy",
    config=SampleConfig,
    inputs=("ingest", "sft"),
    run=called_later("stages.sample.run", "run"),
    version=4,
    files=_files,
    work=_work,
)
