"""Judges in inspect-ai tasks: measured on labelled pairs, and as scorers of a model's answers.

Importing this module imports inspect_ai (3 s).
"""

from collections.abc import Sequence

from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import Score, Scorer, Target, accuracy, mean, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver

from evals.benchmarks.async_batcher import Batcher
from evals.benchmarks.scorers import prompt_of
from evals.files.labelled import LabelledFile
from evals.implicit_rewards import ToChat
from evals.judges import Judge
from evals.judges.judge_spec import named_judge
from evals.judges.orders import judge_in_order, verdict_of
from evals.judges.resolution import mean_of
from schemas.errors import BackendError
from schemas.ids import comparison_id, prompt_id
from schemas.labels import (
    BOTH_ORDERS,
    Comparison,
    LabelProbabilities,
    Message,
    Messages,
    Unscored,
    Verdict,
)
from schemas.stage import Runtime

Orders = tuple[Verdict, Verdict]
"""A judge's verdicts in order ab and in order ba, both about the comparison's own A and B."""


class BothOrders:
    """Asks a judge in both orders, many samples at once, and never from two threads."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self._batcher: Batcher[Comparison, Orders] = Batcher(self._ask, in_thread=True)

    async def verdicts(self, comparison: Comparison) -> Orders:
        """The verdicts in both orders.

        Raises:
            BackendError: the judge failed.
        """
        answer = await self._batcher.ask(comparison)
        if isinstance(answer, Exception):
            said = f"{type(answer).__name__}: {answer}"
            raise BackendError(f"the judge failed: {said}") from answer
        return answer

    def _ask(self, comparisons: Sequence[Comparison]) -> list[Orders]:
        ab, ba = (judge_in_order(self.judge, comparisons, order) for order in BOTH_ORDERS)
        return [(verdict_of(one), verdict_of(two)) for one, two in zip(ab, ba, strict=True)]


def pair_samples(labelled: LabelledFile, chat: ToChat) -> list[Sample]:
    """One sample per labelled comparison; the label is the target."""
    return [
        Sample(
            id=unit.comparison.comparison_id,
            input=chat(unit.comparison.prompt),
            target=unit.label.value,
            metadata={
                "prompt_id": unit.comparison.prompt_id,
                "group": labelled.sources[unit.comparison.comparison_id],
                "a": list(unit.comparison.completion_a),
                "b": list(unit.comparison.completion_b),
            },
        )
        for unit in labelled.comparisons
    ]


@solver
def ask_judge(judge: str) -> Solver:
    """Let a judge compare the sample's two completions; leaves its verdicts in `verdicts`."""
    asked = BothOrders(named_judge(judge, Runtime()))

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        comparison = Comparison(
            comparison_id=str(state.sample_id),
            prompt_id=state.metadata["prompt_id"],
            prompt=[{"role": m.role, "content": m.text} for m in state.messages],
            completion_a=state.metadata["a"],
            completion_b=state.metadata["b"],
        )
        verdicts = await asked.verdicts(comparison)
        state.metadata["verdicts"] = [_said(verdict) for verdict in verdicts]
        state.output = ModelOutput.from_content(asked.judge.name, " | ".join(map(_words, verdicts)))
        return state

    return solve


@scorer(metrics=[accuracy(), stderr(cluster="prompt_id")], name="agreement")
def agreement() -> Scorer:
    """1 where the label of both orders' mean probabilities is the target."""

    async def score(state: TaskState, target: Target) -> Score:
        scored = _scored(state)
        if scored is None:
            return Score.unscored(reason="grader_failed", explanation=state.output.completion)
        label = mean_of(scored).preference
        return Score(value=float(label.value == target.text), answer=label.value)

    return score


@scorer(metrics=[accuracy(), stderr(cluster="prompt_id")], name="position_consistency")
def position_consistency() -> Scorer:
    """1 where both orders give the same label."""

    async def score(state: TaskState, target: Target) -> Score:
        scored = _scored(state)
        if scored is None:
            return Score.unscored(reason="grader_failed", explanation=state.output.completion)
        one, two = (verdict.preference for verdict in scored)
        return Score(value=float(one is two), answer=f"{one} {two}")

    return score


@scorer(metrics=[mean(), stderr()], name="pairwise_win_rate")
def pairwise_win_rate(judge: str = "length", rival: str = "rival") -> Scorer:
    """The answer's soft score against a rival's answer, asked in both orders; ties are half.

    For any task: the rival's answer stands in the sample's metadata, else it is the target. Equal
    texts are a tie that nobody is asked; a failed verdict leaves the sample unscored.

    Args:
        judge: a kind, its settings as JSON, or a folder of judge.json.
        rival: the metadata key of the rival's answer.
    """
    asked = BothOrders(named_judge(judge, Runtime()))

    async def score(state: TaskState, target: Target) -> Score:
        if state.output.error is not None:
            return Score.unscored(reason="scoring_failed", explanation=state.output.error)
        answer, other = state.output.completion, state.metadata.get(rival, target.text)
        if answer == other:
            return Score(value=0.5, answer=answer, explanation="identical completions")
        prompt: Messages = prompt_of(state.messages)
        sides = (_turn(answer), _turn(other))
        key = comparison_id(prompt, *sides)
        verdicts = await asked.verdicts(Comparison(key, prompt_id(prompt), prompt, *sides))
        scored = [v for v in verdicts if isinstance(v, LabelProbabilities)]
        words = " | ".join(map(_words, verdicts))
        if len(scored) < len(verdicts):
            return Score.unscored(reason="grader_failed", answer=answer, explanation=words)
        return Score(value=min(1.0, mean_of(scored).score_a), answer=answer, explanation=words)

    return score


def _turn(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]


def _said(verdict: Verdict) -> dict[str, object]:
    if isinstance(verdict, Unscored):
        return {"unscored": verdict.reason}
    return {"p_a": verdict.p_a, "p_b": verdict.p_b, "p_tie": verdict.p_tie}


def _words(verdict: Verdict) -> str:
    if isinstance(verdict, Unscored):
        return f"unscored: {verdict.reason} {verdict.detail}".strip()
    return f"{verdict.preference} (A {verdict.p_a:.3f}, B {verdict.p_b:.3f}, {verdict.p_tie:.3f})"


def _scored(state: TaskState) -> list[LabelProbabilities] | None:
    """What both orders said; None where either failed."""
    said = state.metadata["verdicts"]
    if any("unscored" in verdict for verdict in said):
        return None
    return [LabelProbabilities(**verdict) for verdict in said]
