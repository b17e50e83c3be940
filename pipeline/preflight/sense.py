"""Settings that cannot come to anything, each by itself legal."""

from collections.abc import Iterator
from typing import Any

from pipeline.recipe import Recipe


def pointless_sampling(recipe: Recipe) -> Iterator[str]:
    """Samples from which no pair can come."""
    sample: Any = recipe.stages.get("sample")
    if sample is None or "label" not in recipe.stages or sample.outputs:
        return
    if sample.n < 2:
        yield "sample.n: one completion a prompt gives no pair for [label]; take at least 2"
    elif sample.temperature == 0:
        yield "sample.temperature: 0 writes the same completion each time, so [label] finds no pair"


def pointless_rounds(recipe: Recipe) -> Iterator[str]:
    """Rounds that a later round would refuse, or that would all be the same."""
    rounds = recipe.rounds
    if rounds.n == 1:
        return
    sample: Any = recipe.stages.get("sample")
    evaluate: Any = recipe.stages.get("evaluate")
    if sample is not None and sample.outputs:
        yield "rounds.n: a later round samples its own policy, and sample.outputs are files"
    if sample is not None and sample.sampler.kind == "server":
        yield (
            "rounds.n: a later round samples what it has trained, and the server of "
            "sample.sampler has the first policy; take another sampler"
        )
    if evaluate is not None and evaluate.policy is not None:
        yield "rounds.n: every round evaluates its own policy; leave evaluate.policy out"
    by = rounds.stop_when_falls
    if by == "truth" and evaluate is not None and evaluate.truth is None:
        yield "rounds.stop_when_falls: by the truth, and there is no [evaluate.truth]"
    if by == "judge" and "judge" not in recipe.stages:
        yield "rounds.stop_when_falls: by the judge, and there is no [judge]"


def no_held_out_prompts(recipe: Recipe) -> Iterator[str]:
    """Nothing held out, and something that is measured on it."""
    ingest: Any = recipe.stages.get("ingest")
    if ingest is None or any(getattr(d, "keep_source_split", False) for d in ingest.datasets):
        return
    fractions = {"test": ingest.test_fraction, "dev": ingest.dev_fraction}
    for split, reader in _readers(recipe):
        if fractions[split] == 0:
            yield f"ingest.{split}_fraction: 0 holds out no {split} prompts, which {reader} needs"
    if ingest.test_fraction + ingest.dev_fraction >= 1 and _trains(recipe):
        yield (
            "ingest.test_fraction: with dev_fraction it holds out all prompts, and none is left to "
            "train on"
        )


def _readers(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Splits that are measured on, and by which setting."""
    evaluate: Any = recipe.stages.get("evaluate")
    sample: Any = recipe.stages.get("sample")
    if evaluate is not None and not evaluate.brings_prompts:
        yield evaluate.split, "[evaluate]"
    if recipe.rounds.stop_when_falls is not None:
        yield "dev", "rounds.stop_when_falls"
    if sample is not None and sample.max_dev_prompts and not sample.outputs:
        yield "dev", "sample.max_dev_prompts"


def _trains(recipe: Recipe) -> bool:
    return "train" in recipe.stages or "sft" in recipe.stages


def no_such_checkpoint(recipe: Recipe) -> Iterator[str]:
    """A step that the training does not come to, or does not stop at."""
    evaluate: Any = recipe.stages.get("evaluate")
    train: Any = recipe.stages.get("train")
    step = getattr(evaluate, "checkpoint_step", None)
    if step is None:
        return
    if train is None or evaluate.policy is not None:
        yield "evaluate.checkpoint_step: is a step of [train]; leave it out, or evaluate.policy"
        return
    last, every = train.training.max_steps, train.training.eval_every
    if last is not None and step > last:
        yield f"evaluate.checkpoint_step: {step} is beyond train.training.max_steps, {last}"
    elif every is not None and step % every and step != last:
        yield (
            f"evaluate.checkpoint_step: checkpoints are kept where they are measured, every "
            f"{every} steps; {step} is none of them"
        )


def mixed_weights(recipe: Recipe) -> Iterator[str]:
    """A mixture in which only some data sets have a weight."""
    ingest: Any = recipe.stages.get("ingest")
    weights = (
        [dataset.weight for dataset in ingest.datasets if hasattr(dataset, "weight")]
        if (ingest)
        else []
    )
    some = [weight for weight in weights if weight is not None]
    if some and ingest is not None and len(some) < len(ingest.datasets):
        place = next(
            number
            for number, dataset in enumerate(ingest.datasets)
            if getattr(dataset, "weight", None) is None
        )
        yield (
            f"ingest.datasets.{place}.weight: missing; others have one, so every data set needs one"
        )
