"""Log-probabilities of all pairs under the reference policy: computed once, kept in a table."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from evals.models.checkpoints import (
    Dtype,
    ModelSource,
    load_causal_lm,
    load_tokenizer,
    model_fingerprint,
)
from schemas.errors import ConfigError, StaleInputError
from schemas.ids import content_id
from schemas.parquet import ShardedTable, read_rows
from schemas.stage import Progress
from schemas.tables import Table
from stages.training.adapters import fold_adapter
from stages.training.config import TrainingConfig
from stages.training.dpo import PairExample, pair_logps
from stages.training.engines import Engine
from stages.training.precision import matmul_precision

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

REFERENCE_LOGPS = Table(
    name="reference_logps",
    schema=pa.schema(
        [
            pa.field("pair_id", pa.string(), nullable=False),
            # Fingerprint of the reference policy, its rendering and its precision.
            pa.field("reference", pa.string(), nullable=False),
            # Summed over completion tokens, the end-of-turn token included (nats).
            pa.field("chosen_logps", pa.float64(), nullable=False),
            pa.field("rejected_logps", pa.float64(), nullable=False),
            pa.field("chosen_tokens", pa.int32(), nullable=False),
            pa.field("rejected_tokens", pa.int32(), nullable=False),
        ]
    ),
    key=("pair_id",),
)

# Pairs per shard. Shards are cut from the whole list, so that a resumed pass forms the batches of
# an undisturbed one and the numbers are the same to the last bit.
_SHARD_PAIRS = 512


def reference_fingerprint(
    source: ModelSource, tokenizer: "PreTrainedTokenizerBase", dtype: Dtype
) -> str:
    """What reference log-probabilities depend on: weights, layout of the text, and precision."""
    return content_id("reference", model_fingerprint(source), str(tokenizer.chat_template), dtype)


def open_reference(
    source: ModelSource, tokenizer: "PreTrainedTokenizerBase", device: "torch.device"
) -> "PreTrainedModel":
    """Load an explicit reference policy.

    Raises:
        ConfigError: it does not share the policy's tokens, so their scores cannot be compared.
    """
    if load_tokenizer(source).get_vocab() != tokenizer.get_vocab():
        raise ConfigError(
            f"{source.path}: the reference has another vocabulary than the policy; take a "
            "reference of the same family, or leave train.reference out"
        )
    model: PreTrainedModel = fold_adapter(load_causal_lm(source, device))
    return model


class ReferencePass:
    """One pass of the reference policy over all pairs, kept in `reference_logps.parquet`."""

    def __init__(self, folder: Path, fingerprint: str, pairs: Sequence[PairExample]) -> None:
        """`fingerprint` names the reference; `pairs` are all that training will ever ask for."""
        self._folder = folder
        self._path = folder / REFERENCE_LOGPS.file_name
        self.fingerprint = fingerprint
        self._pairs = sorted(pairs, key=lambda pair: pair.key)

    @property
    def is_finished(self) -> bool:
        """Whether the table is there for exactly these pairs.

        Raises:
            StaleInputError: it was made by another reference.
        """
        if not self._path.exists():
            return False
        rows = read_rows(self._path, REFERENCE_LOGPS)
        self._refuse_other({row["reference"] for row in rows})
        return {row["pair_id"] for row in rows} == {pair.key for pair in self._pairs}

    def compute(
        self,
        model: "PreTrainedModel",
        engine: Engine,
        config: TrainingConfig,
        progress: Progress,
    ) -> None:
        """Run the reference over the pairs that no finished shard holds, and write the table."""
        batch_size = config.micro_batch_size or config.batch_size
        table = ShardedTable(self._folder, REFERENCE_LOGPS)
        self._refuse_other({value for (value,) in table.done("reference")})
        shards = [
            self._pairs[i : i + _SHARD_PAIRS] for i in range(0, len(self._pairs), _SHARD_PAIRS)
        ]
        with progress.task("reference", len(self._pairs), "pair") as task:
            for number, shard in enumerate(shards):
                if number >= len(table.shards()):
                    with matmul_precision(config.matmul_precision):
                        table.append(list(self._rows(model, engine, shard, batch_size)))
                task.advance(len(shard))
        table.merge(["pair_id"])

    def attach(self, pairs: Sequence[PairExample]) -> list[PairExample]:
        """The pairs with the reference's log-probabilities, joined by id."""
        # A process that died while it joined the shards has left them beside the table.
        shutil.rmtree(self._folder / f"{REFERENCE_LOGPS.name}.shards", ignore_errors=True)
        known = {row["pair_id"]: row for row in read_rows(self._path, REFERENCE_LOGPS)}
        return [
            replace(
                pair,
                reference_chosen=known[pair.key]["chosen_logps"],
                reference_rejected=known[pair.key]["rejected_logps"],
            )
            for pair in pairs
        ]

    def _rows(
        self,
        model: "PreTrainedModel",
        engine: Engine,
        pairs: Sequence[PairExample],
        batch_size: int,
    ) -> Iterator[dict[str, object]]:
        for batch in engine.micro_batches(pairs, batch_size):
            chosen, rejected = pair_logps(model, engine, batch)
            for pair, c, r in zip(batch, chosen.tolist(), rejected.tolist(), strict=True):
                yield {
                    "pair_id": pair.key,
                    "reference": self.fingerprint,
                    "chosen_logps": c,
                    "rejected_logps": r,
                    "chosen_tokens": len(pair.chosen_ids),
                    "rejected_tokens": len(pair.rejected_ids),
                }

    def _refuse_other(self, fingerprints: set[str]) -> None:
        if fingerprints - {self.fingerprint}:
            raise StaleInputError(
                f"{self._path}: made by another reference policy than the recipe has now "
                f"({sorted(fingerprints)[0][:12]}, now {self.fingerprint[:12]}); delete "
                f"{self._folder} and train again"
            )
