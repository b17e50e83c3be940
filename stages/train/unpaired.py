"""Answers that ingest has kept without a counterpart, in a training."""

from typing import Any

import numpy as np

from evals.models.rendering import ChatRenderer
from schemas.parquet import iter_batches
from schemas.stage import StageContext
from schemas.tables import DECIDING, UNPAIRED
from stages.train.config import TrainConfig
from stages.training.data.disk_cache import open_cache
from stages.training.data.rows.rejects import Rejects
from stages.training.data.rows.token_store import TokenTable
from stages.training.data.singles import open_unpaired, unpaired_answers
from stages.training.losses.config import KtoLoss


class Alone:
    """Answers that ingest has kept without a counterpart: trained by KTO, else counted."""

    def __init__(
        self,
        config: TrainConfig,
        context: StageContext,
        renderer: ChatRenderer,
        limit: int | None,
        rejects: Rejects,
        model_config: Any,
    ) -> None:
        self.table: TokenTable | None = None
        self.train = self.held_out = np.empty(0, np.int64)
        self.unused = self.rows_in = 0
        path = unpaired_answers(context, config.pairs)
        if path is None:
            return
        if not isinstance(config.loss, KtoLoss):
            self.unused = sum(b.num_rows for b in iter_batches(path, UNPAIRED, splits=DECIDING))
            return
        training, before = config.training, len(rejects.rows)
        self.table = open_unpaired(
            *(path, renderer, limit, open_cache(context), rejects, training.truncation),
            reasoning=training.loss_on_reasoning,
        )
        self.table.refuse_foreign_tokens(model_config.get_text_config().vocab_size)
        self.rows_in = len(self.table) + len(rejects.rows) - before
        self.train = self.table.split("train")
        self.held_out = self.table.split("dev")[: training.max_held_out]

    @property
    def counts(self) -> dict[str, int]:
        """How many are trained on and held out; nothing where there is no such table."""
        if self.table is None:
            return {}
        return {"unpaired": len(self.train), "unpaired_held_out": len(self.held_out)}
