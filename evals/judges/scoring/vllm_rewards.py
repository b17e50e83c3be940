"""Rewards by vLLM's pooling engine, in this process."""

from collections.abc import Sequence

from evals.judges.kinds.reward_model import RewardModelJudge
from evals.judges.scoring.rewards import RewardReader
from evals.models.vllm.engine import VllmEngine, refuse_missing_vllm
from evals.models.vllm.options import EngineSettings, position_limit
from schemas.stage import Runtime


class VllmRewardScorer(RewardReader):
    """Reads all conversations of a call in one continuous batch.

    The engine starts with the first one and is given back by `close`.
    """

    def __init__(self, config: RewardModelJudge, runtime: Runtime) -> None:
        """Opens the tokenizer only. Raises ConfigError where vLLM is not installed."""
        refuse_missing_vllm("judge engine vllm", "judge.engine")
        super().__init__(config, position_limit(config.model))
        self._runtime = runtime
        self._engine: VllmEngine | None = None

    def close(self) -> None:
        """Stop the engine; the next comparison starts another."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _rewards(self, rows: Sequence[Sequence[int]]) -> list[float]:
        if self._engine is None:
            settings = EngineSettings(self.config.dtype, self.config.max_prompt_tokens, "pooling")
            self._engine = VllmEngine(self.config.model, settings, self._runtime)
        return self._engine.rewards(rows)
