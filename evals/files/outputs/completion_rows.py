"""Outputs of a file as rows of the completions table."""

from collections.abc import Mapping
from typing import Any

from evals.files.outputs.match import Answer
from schemas.ids import completion_id


def given_completion(
    prompt: Mapping[str, Any], answer: Answer, sample_index: int, fingerprint: str
) -> dict[str, Any]:
    """A row; what only the program knew that wrote it is null.

    Args:
        prompt: the row of the prompts table.
        answer: what stands in the file.
        sample_index: the number of the completion among the prompt's.
        fingerprint: of the file, or of one model in it.
    """
    kept = ("prompt_id", "prompt", "split", "category", "source", "file", "row")
    unknown = dict.fromkeys(("temperature", "top_p", "max_tokens", "seed", "sum_logps"))
    return {name: prompt[name] for name in kept} | {
        "completion_id": completion_id(
            prompt["prompt"], answer.completion, fingerprint, sample_index
        ),
        "sample_index": sample_index,
        "completion": list(answer.completion),
        "reference": prompt.get("reference"),
        "policy": fingerprint,
        "sampler": "file",
        "num_tokens": answer.num_tokens,
        "finish_reason": answer.finish_reason,
        **unknown,
    }
