"""Which prompts are answered: the test split, a file's, or those that files of outputs bring."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.files.outputs.outputs import read_outputs
from evals.files.outputs.prompts import GivenPrompt, read_prompts
from evals.files.standards.references import with_references
from evals.files.standards.sets import prompts_file, standard_set
from evals.models.contenders import OutputsFile
from schemas.errors import ConfigError, DataError
from schemas.parquet import read_rows
from schemas.stage import StageContext
from schemas.tables import PROMPTS
from stages.evaluate.config import EvaluateConfig

Row = dict[str, Any]


@dataclass(frozen=True)
class EvaluationPrompts:
    """Rows of the prompts table, sorted by id; `given` is the same as files name them."""

    rows: Sequence[Row]
    given: Sequence[GivenPrompt]
    from_ingest: bool


def evaluation_prompts(config: EvaluateConfig, context: StageContext) -> EvaluationPrompts:
    """The prompts, at most `max_prompts` of them, which is a random choice.

    Of a file every prompt is taken. One that is listed twice is one prompt, which is said.

    Raises:
        DataError: there are none, or a row is no prompt.
        ConfigError: no [ingest], no file, and no contender that brings prompts.
    """
    if config.prompts is not None:
        found = standard_set(config.prompts)
        path = prompts_file(config.prompts)
        wanted = found.category if found else None
        read = with_references(found, read_prompts(path)) if found else read_prompts(path)
        listed = [
            (prompt, str(path) if found else config.prompts)
            for prompt in read
            if wanted is None or prompt.category == wanted
        ]
        if not listed:
            raise DataError(
                f"{path}: no question is of category {wanted}; correct evaluate.prompts"
            )
        return _of_files(listed, config, context)
    if context.has("ingest"):
        path = context.input("ingest", PROMPTS.file_name)
        rows = read_prompts_of(path, config.split, config.max_prompts)
        given = [GivenPrompt(r["prompt"], None, r["category"], r["row"]) for r in rows]
        return EvaluationPrompts(rows, given, True)
    return _of_files(_brought(config), config, context)


def _brought(config: EvaluateConfig) -> list[tuple[GivenPrompt, str]]:
    """The prompts of all files of outputs, each once, in the order of the contenders."""
    found: dict[str, tuple[GivenPrompt, str]] = {}
    for source in config.sources:
        if isinstance(source, OutputsFile):
            for output in read_outputs(source.files()[0], source.generator):
                for prompt in output.prompts:
                    found.setdefault(prompt.prompt_id, (prompt, source.outputs))
    if not found:
        raise ConfigError(
            "evaluate.prompts: missing; the recipe has no [ingest], and no file of outputs says "
            "which prompts it answers: give the file of prompts"
        )
    return list(found.values())


def _of_files(
    listed: Sequence[tuple[GivenPrompt, str]], config: EvaluateConfig, context: StageContext
) -> EvaluationPrompts:
    once: dict[str, tuple[GivenPrompt, str]] = {}
    for prompt, file in listed:
        once.setdefault(prompt.prompt_id, (prompt, file))
    if repeated := len(listed) - len(once):
        context.progress.note(f"evaluate: {repeated} prompts are listed twice and compared once")
    kept = [once[key] for key in sorted(once)][: config.max_prompts]
    rows = [prompt.to_row(Path(file).name, file) for prompt, file in kept]
    return EvaluationPrompts(rows, [prompt for prompt, _ in kept], False)


def read_prompts_of(path: Path, split: str, max_prompts: int | None) -> list[Row]:
    """The prompts of a split, sorted by id; the first `max_prompts` are a random choice.

    Raises:
        DataError: there are none.
    """
    rows = read_rows(path, PROMPTS, (split,))
    if not rows:
        raise DataError(
            f"{path}: no prompt is in the {split} split, so there is nothing to evaluate on; "
            f"raise ingest.{split}_fraction"
        )
    return sorted(rows, key=lambda row: str(row["prompt_id"]))[:max_prompts]
