"""Completions of one model on held-out prompts, resumable, and the prompts themselves."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evals.models.samplers import SampledCompletion, Sampler, SampleRequest, Unsampled
from evals.models.samplers.rows import completion_row, request_for
from schemas.ids import canonical_messages, seed_from
from schemas.sharded import ShardedTable
from schemas.stage import StageContext
from schemas.tables import COMPLETIONS, REJECTS
from stages.evaluate.config import EvaluateConfig

Row = dict[str, Any]

SHARD_REQUESTS = 1024
PAID_SHARD_REQUESTS = 64


class Completions:
    """The completions table of one model while it is being made."""

    def __init__(
        self, role: str, prompts: Sequence[Row], config: EvaluateConfig, context: StageContext
    ) -> None:
        self.name = self._role = role
        self._config = config
        self._context = context
        self._table = ShardedTable(context.output, COMPLETIONS, f"completions_{role}")
        self._wanted = [(prompt, index) for prompt in prompts for index in range(config.n)]
        self._done = self._table.done("prompt_id", "sample_index")
        self.missing = [wanted for wanted in self._wanted if not self._is_done(wanted)]
        self._rejected = ShardedTable(context.output, REJECTS, f"rejects_{role}")
        self._rejects = {_key(row): row for row in self._rejected.rows()}

    @property
    def rejects(self) -> list[Row]:
        """What there is no completion of, and why."""
        return list(self._rejects.values())

    def _is_done(self, wanted: tuple[Row, int]) -> bool:
        return (wanted[0]["prompt_id"], wanted[1]) in self._done

    def sample(self, sampler: Sampler) -> None:
        """Sample what is missing, one finished shard after another.

        Policy and baseline draw independently: their seeds differ.
        """
        settings = self._config.settings
        seed = seed_from(settings.seed, "evaluate", self._role)
        progress = self._context.progress
        title = f"{self._role} completions"
        with progress.task(title, len(self._wanted), "completions") as task:
            # Shards hold the same requests whether or not the work was interrupted: what is asked
            # together rounds together.
            for shard in _shards(self._wanted, _shard_requests(sampler)):
                if not any(map(self._is_done, shard)):
                    requests = [request_for(prompt, index, seed) for prompt, index in shard]
                    self._keep(sampler, shard, requests)
                task.advance(len(shard))
        self.missing = []

    def _keep(
        self, sampler: Sampler, shard: Sequence[tuple[Row, int]], requests: Sequence[SampleRequest]
    ) -> None:
        settings = self._config.settings
        rows, rejects = [], []
        answers = sampler.sample(requests, settings)
        for (prompt, index), request, answer in zip(shard, requests, answers, strict=True):
            if isinstance(answer, SampledCompletion):
                rows.append(completion_row(prompt, index, request, answer, sampler, settings))
            else:
                rejects.append(_reject(self._role, prompt, index, answer))
        if rejects:  # first: a shard counts as done by its completions
            self._rejected.append(rejects)
        if rows:
            self._table.append(rows)
        self._rejects |= {_key(row): row for row in rejects}

    def reject(self, prompt: Row, index: int, why: Unsampled) -> None:
        """Note that there is no completion, and why."""
        row = _reject(self._role, prompt, index, why)
        self._rejects[_key(row)] = row

    def take(self, rows: Sequence[Row]) -> None:
        """Keep completions that were written elsewhere; nothing is missing then."""
        if rows:
            self._table.append(rows)
        self.missing = []

    def rows(self) -> list[Row]:
        """What has been sampled, sorted by prompt and sample number."""
        return sorted(self._table.rows(), key=lambda r: (r["prompt_id"], r["sample_index"]))

    def merge(self) -> int:
        """Write the table in the order of `rows` and remove its shards; returns its length."""
        self._context.discard(self._rejected.folder)
        return self._table.merge(("prompt_id", "sample_index"))


def _key(reject: Row) -> tuple[str, int, str, str]:
    return reject["file"], reject["row"], reject["raw"], reject["detail"]


def _shard_requests(sampler: Sampler) -> int:
    """Requests between two checkpoints: few where each is paid for."""
    return PAID_SHARD_REQUESTS if sampler.name == "chat-server" else SHARD_REQUESTS


def _shards(wanted: Sequence[tuple[Row, int]], size: int) -> Iterator[Sequence[tuple[Row, int]]]:
    for start in range(0, len(wanted), size):
        yield wanted[start : start + size]


def _reject(role: str, prompt: Mapping[str, Any], index: int, answer: Unsampled) -> Row:
    return {
        "table": f"completions_{role}",
        "reason": answer.reason,
        "detail": f"sample {index}: {answer.detail}",
        "file": prompt["file"],
        "row": prompt["row"],
        "raw": canonical_messages(prompt["prompt"]),
    }
