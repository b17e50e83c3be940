"""Sample completions of the policy, to be compared and learned from."""

from schemas.stage import Stage, called_later
from schemas.work import Known, Work, at_most
from stages.sample.config import SampleConfig


def _work(config: SampleConfig, known: Known) -> Work:
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
    files=lambda config: config.model.files() if config.model else (),
    work=_work,
)
