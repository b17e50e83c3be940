"""Scoring by label tokens: what a causal language model's next token says of a comparison."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from evals.judges.scoring.config import LabelScoring
from evals.judges.scoring.fitting import CUT_NOTE, Fitting, cut_warning
from evals.judges.scoring.label_masses import verdict_of_masses
from evals.judges.scoring.label_tokens import LabelTokens
from evals.models.chat.checks import sound_renderer
from evals.models.checkpoints import ModelSource, load_tokenizer, model_fingerprint
from schemas.ids import content_id
from schemas.labels import Comparison, Preference, Unscored, Verdict

_WORDS_SHOWN = 24


class LabelJudge(ABC):
    """What label scoring is, whatever reads the model."""

    has_a_layout = True

    def __init__(
        self, name: str, config: LabelScoring, source: ModelSource, limit: int | None
    ) -> None:
        """`limit` is the most positions that the model has. Raises what opening a tokenizer does.

        Raises:
            ConfigError: the tokenizer cannot tell the labels apart.
        """
        self.name = name
        self.config = config
        self.source = source
        self.tokenizer = load_tokenizer(source)
        sound_renderer(self.tokenizer)
        self.labels = LabelTokens(self.tokenizer, config.chat, config.prefill)
        self.max_tokens = most_prompt_tokens(limit, config)
        self._cut = 0

    @cached_property
    def fingerprint(self) -> str:
        """Hash of layout, settings and weights; where the weights lie is no part of it."""
        settings = self.config.model_dump_json(exclude={"model"})
        return content_id(
            "judge", self.name, self.config.layout, settings, model_fingerprint(self.source)
        )

    def judge(self, comparisons: Sequence[Comparison]) -> list[Verdict]:
        """One verdict per comparison, in order."""
        shown = [self._fitted(c) for c in comparisons]
        prompts = [prompt for prompt, _ in shown]
        verdicts: list[Verdict] = [too_long(len(p), self.max_tokens) for p in prompts]
        fits = [i for i, prompt in enumerate(prompts) if len(prompt) <= self.max_tokens]
        # Neighbours in length share a batch, so that little of it is padding.
        fits.sort(key=lambda i: len(prompts[i]))
        masses = self._masses([prompts[i] for i in fits]) if fits else []
        for i, masses_of in zip(fits, masses, strict=True):
            verdict = self._verdict(masses_of, len(prompts[i]))
            verdicts[i] = replace(verdict, raw=verdict.raw + shown[i][1])
        return verdicts

    def with_reference(self, comparison: Comparison) -> bool | None:
        """Whether a reference answer is shown; None where none ever is."""
        return self.config.with_reference(comparison)

    @property
    def warnings(self) -> list[str]:
        """How many comparisons were not shown whole."""
        return cut_warning(self._cut, self.max_tokens)

    def would_write(self, comparison: Comparison) -> str:
        """How the model itself would go on where a label is wanted."""
        prompt, _ = self._fitted(comparison)
        return str(self.tokenizer.decode(self._continued(prompt, _WORDS_SHOWN)))

    def _fitted(self, comparison: Comparison) -> tuple[list[int], str]:
        """The prompt of a comparison, cut to fit where that is wished, and what was cut."""
        prompt = self.labels.prompt_ids(comparison)
        if len(prompt) <= self.max_tokens or self.config.overlong == "unscored":
            return prompt, ""
        fitting = Fitting(self.tokenizer, self.labels.prompt_ids, self.max_tokens)
        cut = fitting.cut(comparison, len(prompt))
        if cut is None:
            return prompt, ""
        self._cut += 1
        return cut, CUT_NOTE

    @abstractmethod
    def _continued(self, prompt: Sequence[int], tokens: int) -> list[int]:
        """The likeliest tokens after a prompt."""

    @abstractmethod
    def _masses(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Probabilities of A, B and Tie as the next token of each prompt."""

    def _verdict(self, masses: Sequence[float], prompt_tokens: int) -> Verdict:
        by_label = dict(zip(Preference, masses, strict=True))
        verdict = verdict_of_masses(by_label, self.config.min_label_mass)
        return replace(verdict, prompt_tokens=prompt_tokens, completion_tokens=1)


def most_prompt_tokens(positions: int | None, config: LabelScoring) -> int:
    """Most tokens that a comparison may have: the positions less one for the label."""
    limits = [positions - 1 if positions else None, config.max_prompt_tokens]
    return min((limit for limit in limits if limit), default=2**31 - 1)


def too_long(tokens: int, limit: int) -> Unscored:
    """The outcome of a comparison that does not fit."""
    return Unscored("prompt_too_long", f"{tokens} tokens; the judge reads at most {limit}")
