"""Our own tasks for inspect-ai, all offline. Importing this module imports inspect_ai (3 s).

They also run by themselves: `inspect eval evals/benchmarks/tasks.py@judge_bench -T judge=length -T
comparisons=runs/food/ingest/comparisons.parquet --model none`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
)
from inspect_ai.solver import generate

from evals import food_world, implicit_rewards
from evals.benchmarks import instruction_following, judging_tasks, scorers
from evals.files.labelled import read_labelled
from schemas.errors import DataError
from schemas.labels import Message, Messages
from schemas.parquet import read_rows
from schemas.tables import COMPLETIONS, PROMPTS

_CHAT_MESSAGES: dict[str, Any] = {
    "system": ChatMessageSystem,
    "user": ChatMessageUser,
    "assistant": ChatMessageAssistant,
}


@task(name="food_preference")
def food_preference(prompts: str, split: str = "test") -> Task:
    """What the people of the food world like, asked about people the training never saw.

    Args:
        prompts: path of a prompts table.
        split: dev or test, whose prompts are the data set.
    """
    return Task(
        dataset=MemoryDataset(prompt_samples(Path(prompts), split), name="food_world"),
        solver=generate(),
        scorer=[scorers.preferred(), scorers.well_formed()],
    )


@task(name="instruction_following")
def instruct() -> Task:
    """Instructions whose following can be checked: length, format, wording, punctuation."""
    instruction_following.require_checkers()
    rows = instruction_following.instruction_prompts()
    samples = [Sample(id=row["key"], input=row["prompt"], metadata=row) for row in rows]
    return Task(
        dataset=MemoryDataset(samples, name="instruction_prompts"),
        solver=generate(),
        scorer=scorers.follows_instructions(),
    )


@task(name="preference_accuracy")
def preference_accuracy(
    comparisons: str, split: str = "test", max_comparisons: int | None = 400
) -> Task:
    """How often the model's implicit reward is higher for what people chose.

    The model and the one in the role `reference` are asked for log-probabilities: both must be
    checkpoints opened by `evals.benchmarks.logprob_model`.

    Args:
        comparisons: path of labelled comparisons.
        split: train, dev, test or all.
        max_comparisons: the first so many by id, a fair sample; None takes all.
    """
    labelled = read_labelled(Path(comparisons), None if split == "all" else split)
    samples = implicit_rewards.comparison_samples(labelled, chat_messages)
    if not samples:
        raise DataError(f"{comparisons}: no comparison names a side; ties alone say nothing")
    return Task(
        dataset=MemoryDataset(samples[:max_comparisons], name=Path(comparisons).name),
        solver=implicit_rewards.score_completions(chat_messages),
        scorer=[
            implicit_rewards.implicit_reward(),
            implicit_rewards.implicit_margin(),
            implicit_rewards.log_probability(),
        ],
    )


@task(name="judge_bench")
def judge_bench(
    comparisons: str, judge: str, split: str = "test", max_comparisons: int | None = 400
) -> Task:
    """How often a judge agrees with labels, and with itself in the other order.

    Args:
        comparisons: path of labelled comparisons: ours, Auto-J's, HHH's or JudgeBench's.
        judge: a kind, its settings as JSON, or a folder of judge.json.
        split: train, dev, test or all.
        max_comparisons: the first so many by id, a fair sample; None takes all.
    """
    labelled = read_labelled(Path(comparisons), None if split == "all" else split)
    samples = judging_tasks.pair_samples(labelled, chat_messages)[:max_comparisons]
    return Task(
        dataset=MemoryDataset(samples, name=Path(comparisons).name),
        solver=judging_tasks.ask_judge(judge),
        scorer=[judging_tasks.agreement(), judging_tasks.position_consistency()],
    )


@task(name="pairwise_win_rate")
def pairwise(completions: str, judge: str) -> Task:
    """The model's answers against a rival's completions of the same prompts, by a judge.

    Args:
        completions: path of the rival's completions table; its first sample per prompt is taken.
        judge: a kind, its settings as JSON, or a folder of judge.json.
    """
    rows = [row for row in read_rows(Path(completions), COMPLETIONS) if row["sample_index"] == 0]
    if not rows:
        raise DataError(f"{completions}: has no completions to compare with")
    samples = [
        Sample(
            id=row["prompt_id"],
            input=chat_messages(row["prompt"]),
            target=row["completion"][-1]["content"],
            metadata={"group": row["category"]},
        )
        for row in sorted(rows, key=lambda row: str(row["prompt_id"]))
    ]
    return Task(
        dataset=MemoryDataset(samples, name=Path(completions).name),
        solver=generate(),
        scorer=judging_tasks.pairwise_win_rate(judge),
    )


def prompt_samples(path: Path, split: str) -> list[Sample]:
    """The prompts of a split as samples, sorted by id, the prompt's id being the sample's.

    Raises:
        DataError: no prompt of that split asks about the food world.
    """
    rows = read_rows(path, PROMPTS, (split,))
    asked = [row for row in rows if food_world.person_in(row["prompt"]) is not None]
    if not asked:
        raise DataError(
            f"{path}: no {split} prompt asks about a person of the food world; the task "
            f"food_preference needs the dataset food with a {split}_fraction above 0"
        )
    return [
        Sample(id=row["prompt_id"], input=chat_messages(row["prompt"]), target=food_world.PREFERRED)
        for row in sorted(asked, key=lambda row: str(row["prompt_id"]))
    ]


def chat_messages(messages: Messages) -> list[ChatMessage]:
    """A conversation as inspect's messages."""
    return [_chat_message(message) for message in messages]


def _chat_message(message: Message) -> ChatMessage:
    made: ChatMessage = _CHAT_MESSAGES[message["role"]](content=message["content"])
    return made


@dataclass(frozen=True)
class OwnTask:
    """A task of ours: what it is called with of all that a run provides, and what it asks.

    `takes` maps an argument to the run's own name for it. What asks for log-probabilities is run
    on a `CompletionScorer`; what asks the judge is run once and not once per model. Only answers
    that are drawn differ between epochs.
    """

    make: Callable[..., Task]
    takes: dict[str, str]
    asks: Literal["completions", "log_probabilities", "judge"] = "completions"


TASKS: dict[str, OwnTask] = {
    "food_preference": OwnTask(food_preference, {"prompts": "prompts", "split": "split"}),
    "instruction_following": OwnTask(instruct, {}),
    "preference_accuracy": OwnTask(
        preference_accuracy, {"comparisons": "comparisons", "split": "split"}, "log_probabilities"
    ),
    "judge_bench": OwnTask(
        judge_bench, {"comparisons": "comparisons", "judge": "judge", "split": "split"}, "judge"
    ),
    "pairwise_win_rate": OwnTask(
        pairwise, {"completions": "baseline_completions", "judge": "judge"}
    ),
}
"""Our own tasks by name."""
