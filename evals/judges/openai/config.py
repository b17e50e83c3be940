"""Which server an llm judge asks, and how."""

from typing import Literal

from pydantic import Field, JsonValue

from evals.models.http.addresses import Address, KeyVariable
from schemas.stage import Config


class JudgeServer(Config):
    """An OpenAI-compatible server that judges."""

    base_url: Address = Field(description="address of the server, like https://api.openai.com/v1")
    model: str = Field(description="the model's name there; a dated one, where there is one")
    api_key_env: KeyVariable | None = Field(
        None, description="environment variable that holds the key; null sends none"
    )
    logprobs: Literal["auto", "token_ids", "top", "none"] = Field(
        "auto",
        description="where label probabilities come from: token_ids is exact and vLLM's own, top "
        "takes the 20 likeliest tokens, none reads the text; auto takes the first that works",
    )
    max_tokens: int | None = Field(
        None, ge=1, description="longest reply; null takes 16 for a label, 1024 for reasons"
    )
    token_limit_name: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="what the server calls the limit"
    )
    temperature: float = Field(0, ge=0, le=2, description="0 always takes the likeliest token")
    seed: int | None = Field(None, ge=0, description="sent to the server where set")
    max_asks: int = Field(3, ge=1, description="how often to ask for a reply that states a verdict")
    extra: dict[str, JsonValue] = Field(
        {}, description='further fields of every request, like {reasoning_effort = "low"}'
    )
