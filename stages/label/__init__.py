"""label: turns sampled completions into pairs that a judge stands by in both orders."""

from schemas.stage import Stage, called_later
from schemas.work import Known, Work
from stages.label.config import LabelConfig


def _work(config: LabelConfig, known: Known) -> Work:
    sampled = known.get("sample", {})
    prompts, completions = sampled.get("prompts"), sampled.get("completions")
    rates = bool(known.get("judge", {}).get("pointwise"))
    unit = "ratings" if rates else "verdicts"
    if not prompts or not completions:
        return Work(unit)
    each = completions / prompts
    comparisons = round(prompts * each * (each - 1) / 2)
    pairs = comparisons if config.pairs == "all_pairs" else prompts
    # A judge that rates is asked about each completion, others about both orders of every two.
    return Work(unit, completions if rates else 2 * comparisons, counts={"pairs": pairs})


STAGE = Stage(
    name="label",
    summary="pair sampled completions by the judge's verdicts in both orders",
    config=LabelConfig,
    inputs=("sample", "judge"),
    run=called_later("stages.label.run", "run"),
    version=4,
    work=_work,
    batches=("judge_batch_size",),
)
