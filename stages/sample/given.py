"""Completions that other programs have written, in place of sampling."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from evals.files.outputs.completion_rows import given_completion
from evals.files.outputs.match import match
from evals.files.outputs.outputs import read_outputs
from evals.files.outputs.prompts import GivenPrompt
from evals.models.contenders import OutputsFile, contender_fingerprint
from schemas.conversations import is_cut_in_thought
from schemas.errors import DataError
from schemas.parquet import write_table
from schemas.stage import StageContext
from schemas.tables import COMPLETIONS, REJECTS
from stages.sample.config import SampleConfig

Row = dict[str, Any]


def take_outputs(config: SampleConfig, context: StageContext) -> Mapping[str, int]:
    """Write the completions table from files; every prompt is of the train split.

    Raises:
        DataError: a row that cannot be read, or no completion at all.
    """
    rows: list[Row] = []
    rejects: list[Row] = []
    counted: Counter[str] = Counter()
    for path in config.outputs:
        _take(path, rows, rejects, counted)
    if not rows:
        raise DataError(f"sample.outputs: no completion in {', '.join(config.outputs)}")
    rows.sort(key=lambda row: (row["prompt_id"], row["sample_index"]))
    write_table(context.output / COMPLETIONS.file_name, COMPLETIONS, rows)
    write_table(context.output / REJECTS.file_name, REJECTS, rejects)
    return {
        "prompts": len({row["prompt_id"] for row in rows}),
        "completions": len(rows),
        "rejects": len(rejects),
        "cut_in_thought": sum(
            is_cut_in_thought(row["completion"], row["finish_reason"]) for row in rows
        ),
    }


def _take(path: str, rows: list[Row], rejects: list[Row], counted: Counter[str]) -> None:
    """Add the completions of one file; `counted` numbers those of each prompt over all files."""
    source = OutputsFile(outputs=path)
    fingerprint = contender_fingerprint(source)
    outputs = read_outputs(source.files()[0], every_writer=True)
    prompts: dict[str, GivenPrompt] = {}
    for output in outputs:
        if not output.prompts:
            raise DataError(
                f"{path}: row {output.row}: names no prompt, only its answer; put both into the "
                "row, as in prompt and output"
            )
        prompts |= {prompt.prompt_id: prompt for prompt in output.prompts[:1]}
        if all(text is None for text in output.turns):
            rejects.append(_reject(path, output.row, output.prompts[0]))
    for key, answers in match(prompts.values(), outputs).answers.items():
        prompt = prompts[key].to_row("file", path) | {"split": "train"}
        for answer in answers:
            placed = prompt | {"row": answer.row}
            rows.append(given_completion(placed, answer, counted[key], fingerprint))
            counted[key] += 1


def _reject(path: str, row: int, prompt: GivenPrompt) -> Row:
    return {
        "table": COMPLETIONS.name,
        "reason": "no_output",
        "detail": "the output is null",
        "file": path,
        "row": row,
        "raw": json.dumps({"prompt": list(prompt.prompt)}, ensure_ascii=False),
    }
