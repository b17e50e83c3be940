"""Sampled completions as rows of the completions table."""

from collections.abc import Mapping
from typing import Any

from evals.models.samplers.config import SamplingSettings
from evals.models.samplers.protocol import SampledCompletion, Sampler, SampleRequest
from schemas.ids import completion_id, own_prompt_id, seed_from
from schemas.tables import REFERENCE_COLUMNS, TEMPLATE_COLUMNS


def request_for(prompt: Mapping[str, Any], sample_index: int, seed: int) -> SampleRequest:
    """The request for one more completion of a row of the prompts table."""
    return SampleRequest(
        key=f"{prompt['prompt_id']}/{sample_index}",
        prompt=prompt["prompt"],
        seed=seed_from(seed, prompt["prompt_id"], sample_index),
        tools=prompt.get("tools"),
        chat_template_kwargs=prompt.get("chat_template_kwargs"),
    )


def completion_row(
    prompt: Mapping[str, Any],
    sample_index: int,
    request: SampleRequest,
    completion: SampledCompletion,
    sampler: Sampler,
    settings: SamplingSettings,
) -> dict[str, Any]:
    """A row of the completions table; `prompt` is the row of the prompts table it belongs to."""
    messages = [completion.message]
    kept = ("prompt_id", "prompt", "split", "category", "source", "file", "row")
    beside = {name: prompt.get(name) for name in TEMPLATE_COLUMNS | REFERENCE_COLUMNS}
    return (
        {name: prompt[name] for name in kept}
        | beside
        | {
            "completion_id": completion_id(
                prompt["prompt"],
                messages,
                sampler.fingerprint,
                sample_index,
                asked=own_prompt_id(prompt),
            ),
            "completion_ids": completion.token_ids if completion.tokens_of else None,
            "completion_logps": completion.token_logps,
            "tokens_of": completion.tokens_of,
            "sample_index": sample_index,
            "completion": messages,
            "policy": sampler.fingerprint,
            "sampler": sampler.name,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_tokens": settings.max_tokens,
            "seed": request.seed,
            "num_tokens": completion.num_tokens,
            "sum_logps": completion.sum_logps,
            "finish_reason": completion.finish_reason,
        }
    )
