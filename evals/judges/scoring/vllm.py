"""Scoring by label tokens with vLLM, in this process: one token per comparison."""

import math
from collections.abc import Sequence
from typing import Any

from evals.judges.scoring.config import LabelScoring
from evals.judges.scoring.label_judge import LabelJudge
from evals.models.checkpoints import ModelSource
from evals.models.vllm.engine import VllmEngine, refuse_missing_vllm
from evals.models.vllm.options import EngineSettings, position_limit
from schemas.labels import Preference
from schemas.stage import Runtime


class VllmLabelScorer(LabelJudge):
    """Reads all comparisons of a call in one continuous batch; what they share is read once.

    The engine starts with the first comparison and is given back by `close`.
    """

    def __init__(
        self, name: str, config: LabelScoring, source: ModelSource, runtime: Runtime
    ) -> None:
        """Opens the tokenizer only.

        Raises:
            ConfigError: vLLM is not installed. And what opening a tokenizer raises.
        """
        refuse_missing_vllm("judge engine vllm", "judge.engine")
        super().__init__(name, config, source, position_limit(source))
        self._runtime = runtime
        self._engine: VllmEngine | None = None

    def close(self) -> None:
        """Stop the engine; the next comparison starts another."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _masses(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        from vllm import SamplingParams

        engine = self._started()
        ids = [self.labels.ids[label] for label in Preference]
        asked = SamplingParams(temperature=0, max_tokens=1, logprob_token_ids=ids, detokenize=False)
        # What begins alike is read one after the other, before the engine has to forget it.
        order = sorted(range(len(prompts)), key=lambda i: list(prompts[i]))
        outputs = engine.generate([prompts[i] for i in order], [asked] * len(order))
        masses = {
            i: _label_masses(output.outputs[0].logprobs[0], ids)
            for i, output in zip(order, outputs, strict=True)
        }
        return [masses[i] for i in range(len(prompts))]

    def _continued(self, prompt: Sequence[int], tokens: int) -> list[int]:
        from vllm import SamplingParams

        room = max(1, min(tokens, self.max_tokens + 1 - len(prompt)))
        asked = SamplingParams(temperature=0, max_tokens=room, detokenize=False)
        (output,) = self._started().generate([list(prompt)], [asked])
        return list(output.outputs[0].token_ids)

    def _started(self) -> VllmEngine:
        if self._engine is None:
            wanted = self.config.max_prompt_tokens
            settings = EngineSettings(self.config.dtype, wanted and wanted + 1)
            self._engine = VllmEngine(self.source, settings, self._runtime)
        return self._engine


def _label_masses(logprobs: Any, ids: Sequence[int]) -> list[float]:
    return [math.exp(logprobs[i].logprob) for i in ids]
