"""label: turns sampled completions into pairs that a judge stands by in both orders."""

from schemas.stage import Stage, called_later
from schemas.work import Known, Work
from stages.label.config import LabelConfig


def _work(config: LabelConfig, known: Known) -> Work:
    sampled = known.get("sample", {})
    prompts, completions = sampled.get("prompts"), sampled.get("completions")
    if not prompts or not completions:
        return Work("verdicts")
    each = completions / prompts
    comparisons = round(prompts * each * (each - 1) / 2)
    pairs = prompts if config.pairs == "best_vs_worst" else comparisons
    return Work("verdicts", 2 * comparisons, counts={"pairs": pairs})


STAGE = Stage(
    name="label",
    summary="pair sampled completions by the judge's verdicts in both orders",
    config=LabelConfig,
    inputs=("sample", "judge"),
    run=called_later("stages.label.run", "run"),
    version=4,
    work=_work,
)
