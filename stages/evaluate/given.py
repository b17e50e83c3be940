"""The completions of a contender that is a file of outputs."""

from collections.abc import Sequence
from typing import Any

from evals.files.outputs.completion_rows import given_completion
from evals.files.outputs.match import match
from evals.files.outputs.outputs import read_outputs
from evals.models.contenders import OutputsFile
from evals.models.samplers import Unsampled
from schemas.stage import Progress
from stages.evaluate.prompts import EvaluationPrompts
from stages.evaluate.sampling import Completions

Row = dict[str, Any]

NO_OUTPUT = "no_output"
_NAMED = 5


def take_outputs(
    completions: Completions,
    source: OutputsFile,
    fingerprint: str,
    prompts: EvaluationPrompts,
    progress: Progress,
) -> None:
    """Fill a contender's completions from its file; prompts without an output are rejects.

    Raises:
        DataError: the file cannot be read.
    """
    found = match(prompts.given, read_outputs(source.files()[0], source.generator))
    rows, without = [], []
    for prompt, index in completions.missing:
        answers = found.answers.get(prompt["prompt_id"], [])
        if index < len(answers):
            rows.append(given_completion(prompt, answers[index], index, fingerprint))
        else:
            without.append((prompt, index))
            detail = f"{source.outputs} has no output for it"
            completions.reject(prompt, index, Unsampled(NO_OUTPUT, detail))
    completions.take(rows)
    _say(completions.name, source, without, found.unused, progress)


def _say(
    name: str,
    source: OutputsFile,
    without: Sequence[tuple[Row, int]],
    unused: Sequence[int],
    progress: Progress,
) -> None:
    if without:
        places = [f"{prompt['file']} row {prompt['row']}" for prompt, _ in without]
        more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
        progress.warn(
            f"{name}: {source.outputs} has no output for {len(without)} prompts, which are not "
            f"compared: {', '.join(places[:_NAMED])}{more} (all in rejects.parquet)"
        )
    if unused:
        rows = ", ".join(map(str, unused[:_NAMED])) + (", ..." if len(unused) > _NAMED else "")
        progress.note(
            f"{name}: {len(unused)} outputs of {source.outputs} answer no prompt that is asked "
            f"(rows {rows})"
        )
