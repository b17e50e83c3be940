"""What the policy writes while it is trained: the same prompts with the same seeds at every
evaluation, kept as a table and measured."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from transformers import PreTrainedModel

from evals import food_world
from evals.models.checkpoints import positions_of
from evals.models.rendering import ChatRenderer
from evals.models.samplers.protocol import SampledCompletion, SampleRequest
from evals.models.samplers.transformers import TransformersEngine
from schemas.files import read_sealed_json, write_sealed_json
from schemas.ids import seed_from
from schemas.labels import Messages
from schemas.parquet import read_rows, read_table, write_table
from schemas.stage import Progress
from schemas.tables import DECIDING, PROMPTS
from stages.training.config import TrainingConfig
from stages.training.engines.precision import autocast
from stages.training.monitoring.config import GenerationSettings
from stages.training.monitoring.metrics import Row, damaged
from stages.training.monitoring.observers import Observer
from stages.training.monitoring.written import (
    END_OF_TURN_RATE,
    GENERATIONS,
    MEAN_LENGTH,
    WELL_FORMED_RATE,
)

_SUFFIXES = (".json", ".parquet")
_WORLDS: Mapping[str, Callable[[Messages, str], food_world.Outcome]] = {"food": food_world.grade}


def fixed_prompts(path: Path, count: int) -> list[dict[str, Any]]:
    """`count` rows of the prompts table, of the dev split where it has any: a random choice.

    The ids are hashes, so the first by id are as good as drawn.
    """
    table = read_table(path, PROMPTS, DECIDING)
    dev = table.filter(pc.equal(table["split"], "dev"))
    chosen = (dev if dev.num_rows else table).sort_by("prompt_id").slice(0, count)
    rows: list[dict[str, Any]] = chosen.to_pylist()
    return rows


class Generations(Observer):
    """Lets the policy complete the prompts at every evaluation, into generations.parquet."""

    def __init__(
        self,
        output: Path,
        prompts: Sequence[Mapping[str, Any]],
        renderer: ChatRenderer,
        settings: GenerationSettings,
        training: TrainingConfig,
        progress: Progress,
    ) -> None:
        """`prompts` are rows of the prompts table."""
        self._output = output
        self._prompts = prompts
        self._renderer = renderer
        self._settings = settings
        self._training = training
        self._progress = progress
        self._rows: list[dict[str, Any]] = []
        self._starts: list[int] = []
        """Of each file of rows the number of its first."""

    def begin(self, rows: Sequence[Row]) -> None:
        """Forget what was written after the step that training goes on from.

        Raises:
            DataError: a file of it is not as it was written.
        """
        last = rows[-1]["step"] if rows else -1
        found = [row for path in self._files() for row in self._read(path)]
        rows_of = {(row["step"], row["prompt_id"]): row for row in found if row["step"] <= last}
        self._rows, self._starts = sorted(rows_of.values(), key=lambda row: row["step"]), []

    def close(self) -> None:
        """Put the rows into one table."""
        if self._rows:
            path = self._output / GENERATIONS.file_name
            write_table(path, GENERATIONS, self._rows)
            self._drop_but(path)

    def measure(self, step: int, model: PreTrainedModel) -> Row:
        """Complete the prompts; returns the measures of `measures_of`.

        A prompt that the model is too short for is left out, at every step alike.
        """
        made = self._complete(step, model)
        if step == 0:
            self._say_what_is_missing(made)
        if not made:
            return {}
        self._rows += made
        self._write(len(made))
        return measures_of(made)

    def _write(self, new: int) -> None:
        """Write the newest rows, together with what is in files of no more rows than that: however
        many evaluations there are, a row is written again only where those after it have doubled.
        """
        start = len(self._rows) - new
        while self._starts and start - self._starts[-1] <= len(self._rows) - start:
            start = self._starts.pop()
        if not self._starts:
            start = 0
        self._starts.append(start)
        write_sealed_json(self._part(start), self._rows[start:])
        self._drop_but(*map(self._part, self._starts))

    def _drop_but(self, *kept: Path) -> None:
        for old in {*self._files()} - {*kept}:
            old.unlink()

    def _read(self, path: Path) -> list[dict[str, Any]]:
        if path.suffix == ".parquet":  # the whole table, or what an earlier version has left
            return read_rows(path, GENERATIONS)
        try:
            return list(read_sealed_json(path))
        except ValueError as error:
            raise damaged(path, self._output) from error

    def _part(self, start: int) -> Path:
        return self._output / f"generations.{start:09d}.json"

    def _files(self) -> list[Path]:
        return sorted(p for p in self._output.glob("generations*.*") if p.suffix in _SUFFIXES)

    def _complete(self, step: int, model: PreTrainedModel) -> list[dict[str, Any]]:
        settings = self._settings
        engine = TransformersEngine(
            model,
            self._renderer,
            fingerprint="",
            context=positions_of(model.config),
            batch_size=max(1, len(self._prompts)),
        )
        requests = [
            SampleRequest(p["prompt_id"], p["prompt"], seed_from(settings.seed, p["prompt_id"]))
            for p in self._prompts
        ]
        with autocast(self._training.dtype, model.device):
            answers = engine.sample(requests, settings)
        return [
            self._row(step, prompt, answer)
            for prompt, answer in zip(self._prompts, answers, strict=True)
            if isinstance(answer, SampledCompletion)
        ]

    def _row(
        self, step: int, prompt: Mapping[str, Any], answer: SampledCompletion
    ) -> dict[str, Any]:
        grade = _WORLDS.get(self._settings.world or "")
        return {
            "step": step,
            "prompt_id": prompt["prompt_id"],
            "prompt": prompt["prompt"],
            "completion": [answer.message],
            "num_tokens": len(answer.token_ids),
            "sum_logps": answer.sum_logps,
            "finish_reason": answer.finish_reason,
            "well_formed": grade(prompt["prompt"], answer.text).well_formed if grade else None,
        }

    def _say_what_is_missing(self, made: Sequence[Mapping[str, Any]]) -> None:
        tokens = f"train.generations.max_tokens ({self._settings.max_tokens})"
        left_out = len(self._prompts) - len(made)
        if left_out:
            self._progress.note(
                f"train: {left_out} of {len(self._prompts)} prompts are not completed during "
                f"training: with {tokens} they exceed the model's length"
            )
        if made and not any(row["finish_reason"] == "stop" for row in made):
            self._progress.note(
                f"train: no completion of the start policy ends within {tokens}, so a policy that "
                "unlearns to stop would not be noticed; raise it"
            )


def measures_of(rows: Sequence[Mapping[str, Any]]) -> Row:
    """Rates in [0, 1] and lengths in tokens of one step's generations.

    `end_of_turn_rate`: share that ended by itself. `mean_length` counts the cut ones as they are.
    `well_formed_rate` only where a rule is known.
    """
    n = len(rows)
    found = {
        END_OF_TURN_RATE: sum(row["finish_reason"] == "stop" for row in rows) / n,
        MEAN_LENGTH: sum(row["num_tokens"] for row in rows) / n,
    }
    if rows[0]["well_formed"] is not None:
        found[WELL_FORMED_RATE] = sum(row["well_formed"] for row in rows) / n
    return found
