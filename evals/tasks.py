"""Our own tasks for inspect-ai, all offline. Importing this module imports inspect_ai (3 s).

They also run by themselves: `inspect eval evals/tasks.py@food_preference -T
prompts=runs/food/ingest/prompts.parquet --model ...`.
"""

from pathlib import Path
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
)
from inspect_ai.solver import generate

from evals import food_world, scorers
from schemas.errors import DataError
from schemas.labels import Message, Messages
from schemas.parquet import read_rows
from schemas.tables import PROMPTS

_CHAT_MESSAGES: dict[str, Any] = {
    "system": ChatMessageSystem,
    "user": ChatMessageUser,
    "assistant": ChatMessageAssistant,
}


@task(name="food_preference")
def food_preference(prompts: str) -> Task:
    """What the people of the food world like, asked about people the training never saw.

    Args:
        prompts: path of a prompts table; its test split is the data set.
    """
    return Task(
        dataset=MemoryDataset(test_samples(Path(prompts)), name="food_world"),
        solver=generate(),
        scorer=[scorers.preferred(), scorers.well_formed()],
    )


def test_samples(path: Path) -> list[Sample]:
    """The test prompts of a table as samples, sorted by id, the prompt's id being the sample's.

    Raises:
        DataError: no prompt of the table is a test prompt of the food world.
    """
    rows = [row for row in read_rows(path, PROMPTS) if row["split"] == "test"]
    asked = [row for row in rows if food_world.person_in(row["prompt"]) is not None]
    if not asked:
        raise DataError(
            f"{path}: no test prompt asks about a person of the food world; the task "
            "food_preference needs the dataset food with a test_fraction above 0"
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


TASKS = {"food_preference": food_preference}
"""Our own tasks by name; each takes the path of the prompts table."""
