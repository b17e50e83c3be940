"""A model's answers to prompts of several turns: each later one is asked after its own answers."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from evals.models.samplers import Sampler, Unsampled
from schemas.ids import completion_id, content_id
from schemas.parquet import write_table
from schemas.stage import StageContext
from schemas.tables import COMPLETIONS
from stages.evaluate.config import EvaluateConfig
from stages.evaluate.contestants import Contestant
from stages.evaluate.prompts import EvaluationPrompts
from stages.evaluate.sampling import Completions
from stages.shards.kept import KeptWork
from stages.shards.sampling import reject_row

Row = dict[str, Any]

NO_EARLIER_ANSWER = "no_earlier_answer"
_MADE_ALONE = ("completion_ids", "completion_logps", "tokens_of", "sum_logps")
"""What a row says of the tokens of one answer, and cannot say of a conversation."""


class Conversations:
    """The completions of one contestant, turn by turn; without later turns plain completions."""

    def __init__(
        self,
        model: Contestant,
        asked: EvaluationPrompts,
        config: EvaluateConfig,
        context: StageContext,
        kept: KeptWork,
    ) -> None:
        """`kept` holds the work: of the same model, prompts and settings nothing is made again."""
        self._model, self._config, self._context, self._kept = model, config, context, kept
        self._given = {one.prompt_id: one for one in asked.given}
        self._prompts = asked.rows
        turns = {one.turn for one in asked.given}
        self._last = max(turns, default=0)
        first = [row for row in asked.rows if not self._given[row["prompt_id"]].turn]
        self._parts = [self._completions(first, config)]
        self._wanted: list[dict[str, tuple[Row, Row]]] = [{}]

    @property
    def missing(self) -> bool:
        """Whether anything is not made yet."""
        turns = range(self._last + 1)
        return any(part.missing for turn in turns for part in self._of_turn(turn))

    def sample(self, sampler: Sampler | None = None) -> None:
        """Make what is missing, turn after turn: by `sampler`, or on a cluster."""
        for turn in range(self._last + 1):
            for part in self._of_turn(turn):
                part.sample(sampler)

    @cached_property
    def rows(self) -> list[Row]:
        """All completions, by prompt and sample number; only when nothing is missing."""
        found = [row for turn in range(self._last + 1) for row in self._rows(turn)]
        return sorted(found, key=lambda row: (row["prompt_id"], row["sample_index"]))

    @cached_property
    def rejects(self) -> list[Row]:
        """What there is no completion of, and why."""
        turns = range(self._last + 1)
        found = [one for turn in turns for part in self._of_turn(turn) for one in part.rejects]
        return [*found, *self._unasked()]

    def write(self) -> None:
        """Write the table of all completions."""
        for turn in range(self._last + 1):
            for part in self._of_turn(turn):
                part.forget_work()
        path = self._context.output / f"{self._parts[0][0].table}.parquet"
        write_table(path, COMPLETIONS, self.rows)

    def _of_turn(self, turn: int) -> list[Completions]:
        """The completions of one turn; those of a later one only when the earlier ones are made.

        Those of a later turn are apart by the number of the sample: two that began with the same
        words are asked the same, and answer each for itself.
        """
        while len(self._parts) <= turn:
            wanted = self._after(len(self._parts))
            alone = self._config.model_copy(update={"n": 1})
            parts: list[Completions] = []
            for index in sorted({before["sample_index"] for _, before in wanted.values()}):
                prompts = [
                    self._asked(key, row, before)
                    for key, (row, before) in wanted.items()
                    if before["sample_index"] == index
                ]
                parts += self._completions(prompts, alone)
            self._wanted.append(wanted)
            self._parts.append(parts)
        return self._parts[turn]

    def _completions(self, prompts: Sequence[Row], config: EvaluateConfig) -> list[Completions]:
        """Those of some prompts, apart by the temperature at which their category is answered."""
        by_settings: dict[float, tuple[EvaluateConfig, list[Row]]] = {}
        for row in prompts:
            own = config.at_its_temperature(row["category"])
            by_settings.setdefault(own.temperature, (own, []))[1].append(row)
        asked = by_settings or {config.temperature: (config, [])}
        return [
            Completions(self._model, rows, own, self._context, self._kept)
            for _, (own, rows) in sorted(asked.items())
        ]

    def _after(self, turn: int) -> dict[str, tuple[Row, Row]]:
        """By a new id: a prompt of this turn, and the completion of the turn before it."""
        before = {
            (one.row, one.turn): key for key, one in self._given.items() if one.turn == turn - 1
        }
        said: dict[str, list[Row]] = {}
        for row in self._rows(turn - 1):
            said.setdefault(row["prompt_id"], []).append(row)
        found = {}
        for row in self._prompts:
            given = self._given[row["prompt_id"]]
            if given.turn == turn:
                for one in said.get(before.get((given.row, turn - 1), ""), ()):
                    index = str(one["sample_index"])
                    found[content_id("asked-after", row["prompt_id"], index)] = (row, one)
        return found

    def _asked(self, key: str, row: Row, before: Row) -> Row:
        """The prompt as the model is asked it: all that was said, and the question."""
        question = self._given[row["prompt_id"]].question
        said = [*row["prompt"], *before["completion"], *([question] if question else [])]
        return {**row, "prompt_id": key, "prompt": said}

    def _rows(self, turn: int) -> list[Row]:
        """The completions of a turn under the prompts' own ids, with what was said before."""
        made = [row for part in self._of_turn(turn) for row in part.rows]
        if not turn:
            return made
        return [self._conversation(row, *self._wanted[turn][row["prompt_id"]]) for row in made]

    def _conversation(self, made: Row, row: Row, before: Row) -> Row:
        question = self._given[row["prompt_id"]].question
        said = [*before["completion"], *([question] if question else []), *made["completion"]]
        index = before["sample_index"]
        about = {name: row[name] for name in ("prompt_id", "prompt")}
        key = completion_id(row["prompt"], said, made["policy"], index)
        nothing = dict.fromkeys(name for name in _MADE_ALONE if name in made)
        return made | about | nothing | {
            "completion_id": key, "sample_index": index, "completion": said
        }  # fmt: skip

    def _unasked(self) -> list[Row]:
        """Later turns that could not be asked, as there is no answer to the turn before."""
        made = {(row["prompt_id"], row["sample_index"]) for row in self.rows}
        failed = {
            (pair[0]["prompt_id"], pair[1]["sample_index"])
            for wanted in self._wanted
            for pair in wanted.values()
        }
        why = Unsampled(NO_EARLIER_ANSWER, "the model has no answer to the turn before")
        return [
            reject_row(self._parts[0][0].table, row, index, None, why)
            for row in self._prompts
            if self._given[row["prompt_id"]].turn
            for index in range(self._config.n)
            if (row["prompt_id"], index) not in made | failed
        ]
