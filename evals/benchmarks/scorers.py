"""Scorers for inspect-ai. Importing this module costs the import of inspect_ai, about 3 s."""

from collections.abc import Callable

from inspect_ai.model import ChatMessage, ChatMessageAssistant
from inspect_ai.scorer import Score, Scorer, Target, accuracy, mean, scorer, stderr
from inspect_ai.solver import TaskState

from evals import food_world
from evals.benchmarks import instruction_following
from schemas.labels import Message


@scorer(metrics=[accuracy(), stderr()], name="preferred")
def preferred() -> Scorer:
    """1 where the answer is exactly the food that everybody in the food world prefers."""
    return _food_scorer(lambda outcome: outcome.preferred)


@scorer(metrics=[accuracy(), stderr()], name="well_formed")
def well_formed() -> Scorer:
    """1 where the answer is exactly one food and nothing else."""
    return _food_scorer(lambda outcome: outcome.well_formed)


@scorer(
    metrics={
        name: [mean(), stderr()]
        for name in ("prompt_strict", "prompt_loose", "instruction_strict", "instruction_loose")
    },
    name="follows_instructions",
)
def follows_instructions() -> Scorer:
    """Shares of the sample's instructions that are followed, strictly and loosely."""

    async def score(state: TaskState, target: Target) -> Score:
        if state.output.error is not None:
            return Score.unscored(reason="scoring_failed", explanation=state.output.error)
        answer = state.output.completion
        found = instruction_following.follows(state.metadata, answer)
        return Score(value={name: float(share) for name, share in found.items()}, answer=answer)

    return score


def _food_scorer(holds: Callable[[food_world.Outcome], bool]) -> Scorer:
    async def score(state: TaskState, target: Target) -> Score:
        answer = state.output.completion
        if state.output.error is not None:
            return Score.unscored(reason="scoring_failed", explanation=state.output.error)
        outcome = food_world.grade(prompt_of(state.messages), answer)
        return Score(value=float(holds(outcome)), answer=answer)

    return score


def prompt_of(messages: list[ChatMessage]) -> list[Message]:
    """The conversation up to the model's last answer."""
    asked = (
        messages[:-1] if messages and isinstance(messages[-1], ChatMessageAssistant) else messages
    )
    return [{"role": m.role, "content": m.text} for m in asked]
