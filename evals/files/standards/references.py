"""The reference answers of a standard set, from the file in which they were published."""

from collections.abc import Iterable
from dataclasses import replace

from evals.files.outputs.match import match
from evals.files.outputs.outputs import read_outputs
from evals.files.outputs.prompts import GivenPrompt
from evals.files.standards.sets import StandardSet


def with_references(of: StandardSet, prompts: Iterable[GivenPrompt]) -> list[GivenPrompt]:
    """The prompts with the references that judges were shown; those of other categories have none.

    Without that file the references are those of the questions. A set that was published without
    references is as it was.

    Raises:
        DataError: the file cannot be read.
    """
    wanted = of.standard.judging.get("reference_answers")
    listed = list(prompts)
    if wanted is None:
        return listed
    path = of.references()
    asked = [prompt for prompt in listed if prompt.category in wanted]
    answers = match(asked, read_outputs(path)).answers if path else {}
    known = {key: found[0].completion[-1]["content"] for key, found in answers.items()}
    return [
        replace(prompt, reference=known.get(prompt.prompt_id, prompt.reference))
        if prompt.category in wanted
        else replace(prompt, reference=None)
        for prompt in listed
    ]
