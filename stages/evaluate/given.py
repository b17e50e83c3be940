"""The completions of a contender that is a file of outputs."""

from collections.abc import Sequence
from typing import Any

from evals.files.outputs.completion_rows import given_completion
from evals.files.outputs.match import Matched, match
from evals.files.outputs.outputs import read_outputs
from evals.models.contenders import OutputsFile
from evals.models.samplers import Unsampled
from schemas.stage import Progress
from stages.evaluate.prompts import EvaluationPrompts
from stages.evaluate.sampling import Completions
from stages.shards.sampling import reject_row

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
    found = _matched(source, prompts)
    without = Unsampled(NO_OUTPUT, f"{source.outputs} has no output for it")
    rows, rejects = [], []
    for prompt in completions.prompts:
        answers = found.answers.get(prompt["prompt_id"], [])[: completions.n]
        rows += [given_completion(prompt, a, i, fingerprint) for i, a in enumerate(answers)]
        rejects += [
            reject_row(completions.table, prompt, index, None, without)
            for index in range(len(answers), completions.n)
        ]
    completions.take(rows, rejects)
    _say(completions.name, source, rejects, found.unused, progress)


def _matched(source: OutputsFile, prompts: EvaluationPrompts) -> Matched:
    """All answers; those to prompts of a category with a file of its own are from there."""
    whole, *files = source.files()
    by_category = dict(zip(source.by_category, files, strict=True))
    found = match(
        [one for one in prompts.given if one.category not in by_category],
        read_outputs(whole, source.generator),
    )
    answers, unused = dict(found.answers), [] if by_category else found.unused
    for category, path in by_category.items():
        mine = [one for one in prompts.given if one.category == category]
        answers |= match(mine, read_outputs(path)).answers
    return Matched(answers, unused)


def _say(
    name: str,
    source: OutputsFile,
    without: Sequence[Row],
    unused: Sequence[int],
    progress: Progress,
) -> None:
    if without:
        places = [f"{prompt['file']} row {prompt['row']}" for prompt in without]
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
