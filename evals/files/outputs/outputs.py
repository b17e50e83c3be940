"""What models have written, from files of several layouts.

AlpacaEval's `instruction`, `output`, `generator`; the answer files of Arena-Hard (v0.1: `choices`
with `turns`; v2: `messages`) and of MT-Bench; our completions table; and rows of a prompt and an
output, two answers side by side or a list of answers under any of the usual names.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.files.opening.one_file import one_file
from evals.files.outputs.fields import (
    OUTPUT_NAMES,
    conversation,
    found_columns,
    key_of,
    user_turns,
)
from evals.files.outputs.pairs import label_of, pair_columns
from evals.files.outputs.prompts import GivenPrompt, prompts_of_turns
from evals.files.outputs.rows import file_rows
from schemas.errors import ConfigError, DataError
from schemas.labels import Message, Preference

Row = Mapping[str, Any]

_LISTS = ("outputs", "completions", "responses", "generations", "candidates", "answers")
"""Where a row holds several answers."""
_GENERATORS = ("generator", "model_id", "model")


@dataclass(frozen=True)
class GivenOutput:
    """One answer. `prompts` are empty where the file names its question only by `key`.

    `turns` are the answers to the questions of one row: one, or two in MT-Bench's files. Null
    answers are None: there is no output then. `num_tokens` and `finish_reason` are None where the
    file does not say.
    """

    prompts: Sequence[GivenPrompt]
    key: str | None
    turns: Sequence[str | None]
    row: int
    num_tokens: int | None
    finish_reason: str | None


def read_outputs(
    path: Path, generator: str | None = None, *, every_writer: bool = False
) -> list[GivenOutput]:
    """The outputs of one model, in the order of the file.

    Args:
        path: the file.
        generator: whose, where the file holds those of several.
        every_writer: take those of all models.

    Raises:
        MissingInputError: no such file.
        DataError: a row without an output, or nothing in the file.
        ConfigError: the file holds several models' outputs and none is named, or not this one's.
    """
    path = one_file(str(path), "file of outputs")
    rows = list(file_rows(path))
    if not rows:
        raise DataError(f"{path}: holds no outputs")
    writers = Counter(w for _, row in rows if (w := _writer(row)) is not None)
    if generator is None and len(writers) > 1 and not every_writer:
        raise ConfigError(
            f"{path}: holds the outputs of several models; name one, as in {path}#"
            f"{next(iter(writers))} (it holds {', '.join(sorted(writers)[:8])})"
        )
    if generator is not None and generator not in writers:
        raise ConfigError(
            f"{path}: holds no outputs of {generator!r}, only of {', '.join(sorted(writers)[:8])}"
        )
    mine = [(n, row) for n, row in rows if generator is None or _writer(row) == generator]
    return [output for number, row in mine for output in _outputs(path, number, row)]


def _writer(row: Row) -> str | None:
    found = (row.get(name) for name in _GENERATORS)
    return next((value for value in found if isinstance(value, str) and value), None)


def _outputs(path: Path, number: int, row: Row) -> Iterator[GivenOutput]:
    turns = user_turns(path, number, row)
    prompts = list(prompts_of_turns(turns, row, number))
    for answers, tokens in _answers(path, number, row):
        finish = row.get("finish_reason")
        yield GivenOutput(
            prompts=prompts,
            key=key_of(row),
            turns=answers,
            row=number,
            num_tokens=tokens,
            finish_reason=finish if finish in ("stop", "length") else None,
        )


def _answers(path: Path, number: int, row: Row) -> Iterator[tuple[list[str | None], int | None]]:
    """The answers of a row: several where it holds several choices; each with its tokens."""
    if isinstance(row.get("choices"), list):
        yield from _choices(path, number, row["choices"])
        return
    pair = pair_columns(row)
    listed = next((n for n in _LISTS if isinstance(row.get(n), list)), None)
    if pair is not None:
        for side in pair:
            yield [answer_of(path, number, side, row[side])], None
        return
    if listed is not None:
        for index, value in enumerate(row[listed]):
            yield [answer_of(path, number, f"{listed}[{index}]", value)], None
        return
    name = next((n for n in OUTPUT_NAMES if n in row), None)
    if name is None:
        raise DataError(
            f"{path}: row {number}: no output under any of {', '.join(OUTPUT_NAMES)} "
            f"(found {found_columns(row)}); rename the column that holds it to output"
        )
    value = row[name]
    tokens = row.get("num_tokens")
    yield (
        [answer_of(path, number, name, value)],
        tokens if isinstance(tokens, int) and not isinstance(tokens, bool) else None,
    )


def _choices(
    path: Path, number: int, choices: Sequence[Any]
) -> Iterator[tuple[list[str | None], int | None]]:
    """FastChat's: each choice has its turns, texts or `{"content": text, "token_len": n}`."""
    for index, choice in enumerate(choices):
        turns = choice.get("turns") if isinstance(choice, Mapping) else None
        if not isinstance(turns, list) or not turns:
            raise DataError(f"{path}: row {number}: choices[{index}] has no turns")
        texts: list[str | None] = []
        tokens = turns[0].get("token_len") if isinstance(turns[0], Mapping) else None
        for turn in turns:
            text = turn.get("content") if isinstance(turn, Mapping) else turn
            if isinstance(text, Mapping):
                text = text.get("answer")
            if text is not None and not isinstance(text, str):
                raise DataError(f"{path}: row {number}: choices[{index}] holds no text")
            texts.append(text)
        yield texts, tokens if isinstance(tokens, int) else None


def answer_of(path: Path, number: int, name: str, value: Any) -> str | None:
    """The text of an answer, which is a text or messages; None where there is none.

    Raises:
        DataError: it is neither.
    """
    if value is None or isinstance(value, str):
        return value
    turns = conversation(path, number, name, value)
    if name == "messages" and (not turns or turns[-1]["role"] != "assistant"):
        raise DataError(
            f"{path}: row {number}: messages do not end with the assistant's answer "
            "(and there is no output, completion or response)"
        )
    answer: Message = turns[-1] if turns else {"role": "assistant", "content": ""}
    if name not in ("messages", "chosen", "rejected") and len(turns) != 1:
        raise DataError(f"{path}: row {number}: {name} has {len(turns)} turns, must have one")
    return answer["content"]


def output_pairs(
    path: Path,
) -> Iterator[tuple[Sequence[Message], tuple[str, str], Preference]]:
    """Prompt, both answers and the preference of every labelled pair of a file.

    Raises:
        MissingInputError, DataError: the file cannot be read, or a label says neither side.
    """
    for number, row in file_rows(path):
        pair = pair_columns(row)
        label = label_of(path, number, row) if pair else None
        turns = user_turns(path, number, row) if label else []
        if pair is None or label is None or not turns:
            continue
        a, b = (answer_of(path, number, name, row[name]) for name in pair)
        if a is not None and b is not None:
            yield turns[0], (a, b), label
