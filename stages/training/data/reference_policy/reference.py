"""Log-probabilities of all pairs under the reference policy: computed once, kept in a table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.models.chat.read_only import scored
from evals.models.checkpoints import (
    Dtype,
    ModelSource,
    WeightFormat,
    load_causal_lm,
    load_tokenizer,
    model_fingerprint,
)
from evals.pulse import beat
from schemas.errors import ConfigError, StaleInputError
from schemas.files import is_sealed, remove, seal_file, seal_of
from schemas.ids import content_id
from schemas.parquet import read_table, write_table
from schemas.stage import Progress
from schemas.tables import Table
from stages.training.config import TrainingConfig
from stages.training.data.packing import tree_size
from stages.training.data.reference_policy.reference_cache import (
    Logps,
    ReferenceCache,
    tokens_digest,
)
from stages.training.distributed.rank_partition import Dealt
from stages.training.distributed.sharding import sharded
from stages.training.distributed.world import current_world, share_file
from stages.training.engines.choose import Engine, open_engine
from stages.training.engines.precision import matmul_precision
from stages.training.objectives.preference import PairExample, pair_logps

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

# Pairs that are lost at most when the process dies.
_SHARD_PAIRS = 512


def reference_fingerprint(
    source: ModelSource, tokenizer: PreTrainedTokenizerBase, dtype: Dtype
) -> str:
    """What reference log-probabilities depend on: weights, layout of the text, and precision."""
    weights = model_fingerprint(source)
    return content_id("reference", weights, str(tokenizer.chat_template), dtype)


def open_reference(
    source: ModelSource,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
    weights: WeightFormat = "float32",
) -> PreTrainedModel:
    """Load an explicit reference policy, in the number format of the policy's weights.

    Raises:
        ConfigError: it does not share the policy's tokens, so their scores cannot be compared.
    """
    if load_tokenizer(source).get_vocab() != tokenizer.get_vocab():
        raise ConfigError(
            f"{source.path}: the reference has another vocabulary than the policy; take a "
            "reference of the same family, or leave train.reference out"
        )
    model: PreTrainedModel = load_causal_lm(source, device, weights)
    return model


class PairScorer:
    """Log-probabilities of pairs under a model that is opened when it is first needed.

    On a CPU each pair goes through the model alone. It costs no more than packing, as no prompt is
    computed twice, and its numbers are then the same to the last bit whatever else is asked, so
    they can be kept. A GPU needs packs to be busy; there they are the same up to rounding.
    """

    def __init__(
        self, model: Callable[[], PreTrainedModel], config: TrainingConfig, progress: Progress
    ) -> None:
        """`config` says in which precision, and how large a pack may be."""
        self._open = model
        self._config = config
        self._progress = progress

    def __call__(self, pairs: Sequence[PairExample]) -> Logps:
        """Summed log-probabilities of chosen and rejected: float64 (n, 2)."""
        with matmul_precision(self._config.matmul_precision):
            dealt = Dealt(pairs, tree_size, self._batches)
            columns = dealt.columns([self._score(batch) for batch, _ in dealt.passes()])
        both = zip(columns["chosen"].tolist(), columns["rejected"].tolist(), strict=True)
        found = dict(zip([pair.key for pair in dealt.items], both, strict=True))
        return np.array([found[pair.key] for pair in pairs])

    def _score(self, batch: Sequence[PairExample]) -> dict[str, Tensor]:
        chosen, rejected = pair_logps(self._model, self._engine, batch)
        beat(len(batch) * current_world().size)
        return {"chosen": chosen, "rejected": rejected}

    @cached_property
    def _model(self) -> PreTrainedModel:
        return sharded(self._open(), keep=True)  # the policy starts from it

    @cached_property
    def _engine(self) -> Engine:
        return open_engine(self._model, self._config, self._progress)

    def _batches(self, pairs: Sequence[PairExample]) -> list[list[PairExample]]:
        if self._model.device.type == "cpu":
            return [[pair] for pair in pairs]
        size = self._config.micro_batch_size or self._config.batch_size
        return self._engine.micro_batches(pairs, size)


class _Attached(Sequence[PairExample]):
    """Pairs with their reference log-probabilities, each joined when it is asked for."""

    def __init__(
        self, pairs: Sequence[PairExample], known: Mapping[str, tuple[float, float]]
    ) -> None:
        self._pairs = pairs
        self._known = known

    def __len__(self) -> int:
        return len(self._pairs)

    @overload
    def __getitem__(self, index: int) -> PairExample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PairExample]: ...
    def __getitem__(self, index: int | slice) -> PairExample | Sequence[PairExample]:
        if isinstance(index, slice):
            return _Attached(self._pairs[index], self._known)
        pair = self._pairs[index]
        chosen, rejected = self._known[pair.key]
        return replace(pair, reference_chosen=chosen, reference_rejected=rejected)


class ReferencePass:
    """What the reference policy says of all pairs, kept in `reference_logps.parquet`.

    Only what neither that table nor the cache knows goes through the model.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: str,
        pairs: Sequence[PairExample],
        cache: ReferenceCache,
    ) -> None:
        """`fingerprint` names the reference; `pairs` are all that training will ever ask for."""
        self._path = folder / REFERENCE_LOGPS.file_name
        self.fingerprint = fingerprint
        self._pairs = pairs
        self._cache = cache
        self._keys = [pair.key for pair in pairs]
        self._rows = {key: row for row, key in enumerate(self._keys)}

    @property
    def seal(self) -> Path:
        """Says whether the table is as it was written; of no use when the stage is finished."""
        return seal_of(self._path)

    @cached_property
    def _digests(self) -> list[bytes]:
        return [tokens_digest(pair) for pair in self._pairs]

    @property
    def is_finished(self) -> bool:
        """Whether the table is there for exactly these pairs.

        Raises:
            StaleInputError: it was made by another reference.
        """
        if current_world().is_main and self.seal.exists() and not is_sealed(self._path):
            remove(self._path)  # most of it comes from the cache
        share_file(self._path)
        if not self._path.exists():
            return False
        table = read_table(self._path, REFERENCE_LOGPS)
        self._refuse_other(set(table["reference"].unique().to_pylist()))
        return set(table["pair_id"].to_pylist()) == set(self._keys)

    def compute(self, score: Callable[[Sequence[PairExample]], Logps], progress: Progress) -> None:
        """Write the table; `score` (see `PairScorer`) is only asked for what is not known yet."""
        world = current_world()
        logps = world.agree(self._cache.look_up(self._digests))
        missing = np.flatnonzero(np.isnan(logps).any(axis=1))
        known = len(logps) - len(missing)
        # In the title, and no note: what is known already depends on what ran before.
        title = f"reference ({known} of {len(logps)} pairs are known)" if known else "reference"
        with progress.task(title, len(missing), "pair") as task:
            for start in range(0, len(missing), _SHARD_PAIRS):
                shard = missing[start : start + _SHARD_PAIRS].tolist()
                logps[shard] = score([self._pairs[row] for row in shard])
                if world.is_main:
                    self._cache.add([self._digests[row] for row in shard], logps[shard])
                task.advance(len(shard))
        self._write(logps)

    def attach(self, pairs: Sequence[PairExample]) -> Sequence[PairExample]:
        """The pairs with the reference's log-probabilities, joined by id."""
        table = read_table(self._path, REFERENCE_LOGPS)
        columns = (table["chosen_logps"].to_pylist(), table["rejected_logps"].to_pylist())
        known = dict(zip(table["pair_id"].to_pylist(), zip(*columns, strict=True), strict=True))
        return _Attached(pairs, known)

    def _write(self, logps: Logps) -> None:
        lengths = [[scored(ids) for ids in pair.branches] for pair in self._pairs]
        table = pa.table(
            [
                self._keys,
                [self.fingerprint] * len(self._keys),
                *logps.T,
                *([row[side] for row in lengths] for side in (0, 1)),
            ],
            names=REFERENCE_LOGPS.schema.names,
        )
        write_table(self._path, REFERENCE_LOGPS, table.sort_by("pair_id"))
        seal_file(self._path)

    def _refuse_other(self, fingerprints: set[str]) -> None:
        if fingerprints - {self.fingerprint}:
            raise StaleInputError(
                f"{self._path}: made by another reference policy than the recipe has now "
                f"({sorted(fingerprints)[0][:12]}, now {self.fingerprint[:12]}); delete "
                f"{self._path.parent} and train again"
            )
