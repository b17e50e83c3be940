"""Rewards with transformers, in padded batches."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from evals.judges.kinds.reward_model import RewardModelJudge
from evals.judges.scoring.rewards import RewardReader
from evals.memory.allocator import give_back
from evals.memory.between_layers import trim_between_layers
from evals.models.checkpoints import positions_of, torch_device
from evals.models.classifiers import load_reward_model, rewards
from evals.models.logps import alike_in_length
from evals.pulse import beat
from schemas.stage import Runtime


class RewardScorer(RewardReader):
    """Reads with transformers, in padded batches."""

    def __init__(self, config: RewardModelJudge, runtime: Runtime) -> None:
        """Loads tokenizer and weights. Raises what `RewardModelJudge.open` says."""
        self._model: PreTrainedModel = load_reward_model(
            config.model, torch_device(runtime), config.dtype
        )
        trim_between_layers(self._model)
        super().__init__(config, positions_of(self._model.config))
        self._batch_size = runtime.judge_batch_size

    def close(self) -> None:
        """Give back what its passes have left."""
        give_back()

    def _rewards(self, rows: Sequence[Sequence[int]]) -> list[float]:
        pad_id = self.renderer.tokenizer.pad_token_id
        found: list[float] = []
        for batch in alike_in_length(rows, self._batch_size):
            found += rewards(self._model, batch, pad_id)
            beat(len(batch))
        return found
