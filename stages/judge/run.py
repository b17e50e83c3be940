"""The steps of the judge stage: train, save, measure."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from evals.judge_card.attacks import attack_cost, attack_table
from evals.judge_card.card import build_card
from evals.judge_card.config import JudgeFloors
from evals.judge_card.floors import CARD_FILE, shortfalls
from evals.judge_card.subsets import members_of
from evals.judges import (
    Judge,
    PreferenceModelJudge,
    RewardModelJudge,
    open_judge,
    save_judge,
)
from evals.judges.layout import comparisons_neutralised
from evals.judges.orders import is_pointwise_judge
from evals.judges.progress import spending_counts
from evals.judges.ratings.charging import ratings_counts, reference_counts
from schemas.errors import DataError
from schemas.labels import LabeledComparison
from schemas.parquet import iter_batches, read_rows, rows_of, write_table
from schemas.results.base import write_result
from schemas.results.judge_card import Attack, Floors, JudgeCard
from schemas.stage import Progress, StageContext
from schemas.tables import COMPARISONS, DECIDING, REJECTS, VERDICTS
from stages.judge.config import JudgeConfig
from stages.judge.labelled import Labelled, labelled, reject
from stages.judge.reward_training import RewardModelTraining, counts_of
from stages.judge.training import PreferenceModelTraining
from stages.shards.judging import failed_counts, judge_all, say_missing
from stages.shards.kept import KeptWork
from stages.training.config import TrainingConfig
from stages.training.distributed.world import current_world


def run(config: JudgeConfig, context: StageContext) -> Mapping[str, int]:
    """Train, save and measure the judge.

    Raises:
        DataError: training is asked for and there is nothing to train on.
        ConfigError: the model to start from is not named, or cannot tell the labels apart.
    """
    most = config.max_card_comparisons
    if config.training is None:  # nobody learns from the others
        train, dev = labelled([], "train"), _first(context, "dev", most)
    else:
        rows = _compared(context, DECIDING)
        train, dev = labelled(rows, "train"), labelled(rows, "dev")
    rejects, counts = _train(config, train, dev, context)
    if not current_world().is_main:
        return {}
    write_table(context.output / REJECTS.file_name, REJECTS, rejects)
    test = _first(context, "test", most)
    return counts | _measure(config, dev.first(most), test.first(most), context)


def _compared(context: StageContext, splits: Sequence[str]) -> list[dict[str, Any]]:
    """The comparisons of some splits; none where the recipe brings no data."""
    if not context.has("ingest"):
        return []
    return read_rows(context.input("ingest", COMPARISONS.file_name), COMPARISONS, tuple(splits))


def _first(context: StageContext, split: str, most: int | None) -> Labelled:
    """The labelled comparisons of a split that come first by id: no others are held in memory."""
    if not context.has("ingest"):
        return labelled([], split)
    path = context.input("ingest", COMPARISONS.file_name)
    found = pq.read_table(path, columns=["comparison_id", "label", "split"])
    found = found.filter(pc.and_(pc.equal(found["split"], split), pc.is_valid(found["label"])))
    ids = found["comparison_id"].take(pc.sort_indices(found["comparison_id"])).slice(0, most)
    batches = iter_batches(path, COMPARISONS, splits=(split,))
    chosen = (batch.filter(pc.is_in(batch["comparison_id"], ids)) for batch in batches)
    return labelled([row for batch in chosen for row in rows_of(batch)], split)


def _train(
    config: JudgeConfig, train: Labelled, dev: Labelled, context: StageContext
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Rows for the rejects table, and counts; both empty where nothing is to be trained."""
    if config.training is None:
        return [], {}
    if not train.comparisons:
        raise DataError(
            "judge: no labelled comparisons in ingest's train split, so there is nothing to train "
            "on; ingest data with preferences, or use a judge of kind rule or length"
        )
    if isinstance(config.judge, RewardModelJudge):
        return _train_rewards(config, config.judge, config.training, (train, dev), context)
    assert isinstance(config.judge, PreferenceModelJudge)
    training = PreferenceModelTraining(config.judge, config.training, context, config.fresh_weights)
    learned = training.tokenise(train.comparisons)
    if not learned.examples:
        raise DataError(
            f"judge: all {len(train.comparisons)} train comparisons are longer than "
            f"{training.max_tokens} tokens; raise judge.training.max_length, or use a model with "
            "a longer context"
        )
    training.run(learned.examples, training.tokenise(dev.comparisons).examples)
    rejects = [
        reject(train.rows[index], "prompt_too_long", detail)
        for index, detail in learned.too_long.items()
    ]
    return rejects, {
        "train_comparisons": len(train.comparisons),
        "train_examples": len(learned.examples),
        "rejected_prompt_too_long": len(rejects),
    }


def _train_rewards(
    config: JudgeConfig,
    judge: RewardModelJudge,
    settings: TrainingConfig,
    splits: tuple[Labelled, Labelled],
    context: StageContext,
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The same for a Bradley-Terry reward model."""
    train, dev = splits
    training = RewardModelTraining(judge, settings, config.rewards, context)
    pairs, left_out = training.tokenise(train)
    if not pairs:
        raise DataError(
            f"judge: none of {len(train.comparisons)} train comparisons can be trained on "
            f"({counts_of(left_out)}); ingest comparisons without ties, or raise "
            "judge.training.max_length"
        )
    training.run(pairs, training.tokenise(dev)[0])
    rejects = [reject(train.rows[index], *why) for index, why in left_out.items()]
    counts = {"train_comparisons": len(train.comparisons), "train_examples": len(pairs)}
    return rejects, counts | counts_of(left_out)


def _measure(
    config: JudgeConfig,
    dev: Labelled,
    test: Labelled,
    context: StageContext,
) -> dict[str, int]:
    """Save the judge, its verdicts on held-out comparisons in both orders, and its card.

    The card's figures are those on dev, which its floors look at; under `test` are the final ones.
    """
    judge = save_judge(context.output, config.judge, context.runtime)
    kept = KeptWork(context.output / "verdicts.work")
    shown = [u.comparison for u in (*dev.comparisons, *test.comparisons)]
    opens = partial(open_judge, context.output.resolve(), context.runtime)
    verdicts = judge_all(judge, opens, shown, kept, context, "measure the judge")
    write_table(context.output / VERDICTS.file_name, VERDICTS, verdicts)
    context.discard(kept.folder)
    say_missing(judge.name, failed_counts(verdicts), context)

    members = members_of([*dev.rows, *test.rows])

    def figures(units: Sequence[LabeledComparison]) -> JudgeCard:
        ids = {unit.comparison.comparison_id for unit in units}
        own = [row for row in verdicts if row["comparison_id"] in ids]
        named = {"judge": judge.name, "kind": config.judge.kind, "fingerprint": judge.fingerprint}
        return build_card(units, own, **named, members=members)

    card, final = figures(dev.comparisons), figures(test.comparisons)
    if config.attacks and dev.comparisons:
        attacks = _attacked(judge, dev.comparisons, config.attacks, context)
        card = card.model_copy(update={"attacks": attacks})
    floors = JudgeFloors(**{name: getattr(config, name) for name in JudgeFloors.model_fields})
    further = {
        "split": "dev",
        "test": final,
        "floors": Floors(**dict(floors)),
        "below_floors": shortfalls(card, floors),
    }
    card = card.model_copy(update=further)
    write_result(context.output / CARD_FILE, card)
    if card.n or context.has("ingest"):
        _say_what_it_is_worth(card, context.progress)
    else:
        context.progress.note("judge: not measured, as the recipe brings no labelled comparisons")
    for missed in card.below_floors:
        context.progress.warn(f"judge: {missed}: label and evaluate will refuse it")
    return {
        "held_out_comparisons": card.n,
        "scored_comparisons": card.n_scored,
        "test_comparisons": final.n,
        "verdicts": len(verdicts),
        **comparisons_neutralised(judge, shown),
        **spending_counts(judge, verdicts),
        **ratings_counts(verdicts),
        **reference_counts(verdicts),
        **({"pointwise": 1} if is_pointwise_judge(judge) else {}),
    }


def _attacked(
    judge: Judge, dev: Sequence[LabeledComparison], pairs: int, context: StageContext
) -> list[Attack]:
    """The attack table, its price said before it is paid."""
    shown = [unit.comparison for unit in dev]
    if cost := attack_cost(judge, shown, pairs):
        context.progress.note(f"judge: attacks cost about {cost:.4g} in the unit of the prices")
    return attack_table(judge, shown, pairs, context.progress)


def _say_what_it_is_worth(card: JudgeCard, progress: Progress) -> None:
    if not card.n:
        progress.warn(
            "judge: no labelled comparisons in ingest's dev split, so the judge is not measured "
            "and nobody knows how far to trust it"
        )
        return
    accuracy, lift, longest = card.accuracy, card.lift_over_longest, card.baselines.longest
    if accuracy.value is None or lift.ci_low is None:
        progress.warn(f"judge: none of {card.n} held-out comparisons could be scored")
        return
    progress.note(
        f"judge {card.judge}: accuracy {accuracy.value:.3f} "
        f"[{accuracy.ci_low:.3f}, {accuracy.ci_high:.3f}] on {card.n_scored} held-out "
        f"comparisons; longest-wins {longest.value:.3f}"
    )
    if lift.ci_low <= 0 and card.kind != "length":
        progress.warn(
            f"judge: accuracy {accuracy.value:.3f} does not clearly beat the longest-wins "
            f"baseline's {longest.value:.3f} "
            f"(difference [{lift.ci_low:.3f}, {lift.ci_high:.3f}])"
        )
