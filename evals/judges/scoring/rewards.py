"""Rewards to verdicts: what a reward model is, whatever reads it."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property

from evals.judges.kinds.reward_model import RewardModelJudge
from evals.judges.layout import LAYOUT_VERSION
from evals.judges.scoring.conversations import ConversationReader
from evals.models.checkpoints import model_fingerprint
from schemas.ids import canonical_messages, content_id
from schemas.labels import Comparison, LabelProbabilities, Messages, Unscored, Verdict

_REMEMBERED = 4096

Scored = tuple[float, int] | Unscored
"""A reward and the tokens read for it, or why there is none."""


class RewardReader(ConversationReader, ABC):
    """Reads prompt and completion as one conversation; the same one is read once a call."""

    name = "reward_model"

    def __init__(self, config: RewardModelJudge, limit: int | None) -> None:
        """See `ConversationReader`."""
        super().__init__(config, limit)
        self._known: dict[str, Scored] = {}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of settings and weights; where the weights lie is no part of it."""
        settings = self.config.model_dump_json(exclude={"model"})
        weights = model_fingerprint(self.config.model)
        return content_id("judge", self.name, LAYOUT_VERSION, settings, weights)

    def judge(self, comparisons: Sequence[Comparison]) -> list[Verdict]:
        """One verdict per comparison, in order; `raw` holds both rewards."""
        texts = {
            _key(c.prompt, side): (c.prompt, side)
            for c in comparisons
            for side in (c.completion_a, c.completion_b)
        }
        scores = self._scores(texts)
        return [
            verdict_of_rewards(
                scores[_key(c.prompt, c.completion_a)], scores[_key(c.prompt, c.completion_b)]
            )
            for c in comparisons
        ]

    def _scores(self, texts: Mapping[str, tuple[Messages, Messages]]) -> dict[str, Scored]:
        """Scores by key. Those of the latest calls are remembered: a completion has many rivals."""
        rows = {
            key: self.conversation_ids(*text)
            for key, text in texts.items()
            if key not in self._known
        }
        fits = sorted(
            (k for k in rows if len(rows[k]) <= self.max_tokens), key=lambda k: len(rows[k])
        )
        new: dict[str, Scored] = {k: self._too_long(len(row)) for k, row in rows.items()}
        found = self._rewards([rows[key] for key in fits]) if fits else []
        for key, reward in zip(fits, found, strict=True):
            new[key] = (reward, len(rows[key]))
        scores = {key: self._known[key] for key in texts if key in self._known} | new
        self._known = dict([*self._known.items(), *new.items()][-_REMEMBERED:])
        return scores

    def _too_long(self, tokens: int) -> Unscored:
        return Unscored(
            "prompt_too_long", f"{tokens} tokens; the judge reads at most {self.max_tokens}"
        )

    @abstractmethod
    def _rewards(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """The reward of each conversation, given as token ids, shortest first."""


def verdict_of_rewards(a: Scored, b: Scored) -> Verdict:
    """Bradley-Terry: p(A) = 1 / (1 + exp(-(r_A - r_B))), and no ties."""
    if isinstance(a, Unscored):
        return a
    if isinstance(b, Unscored):
        return b
    (reward_a, tokens_a), (reward_b, tokens_b) = a, b
    if not math.isfinite(reward_a) or not math.isfinite(reward_b):
        return Unscored("no_reward", "a reward is not a number")
    return LabelProbabilities(
        p_a=_sigmoid(reward_a - reward_b),
        p_b=_sigmoid(reward_b - reward_a),
        p_tie=0.0,
        raw=json.dumps({"reward_a": reward_a, "reward_b": reward_b}),
        prompt_tokens=tokens_a + tokens_b,
        completion_tokens=0,
    )


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _key(prompt: Messages, completion: Messages) -> str:
    return content_id("conversation", canonical_messages(prompt), canonical_messages(completion))
