"""What a server can say about its tokens: found out once, and remembered."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from evals.judges.openai.config import JudgeServer
from evals.judges.openai.label_logprobs import LabelTokenIds
from evals.judges.scoring.first_differences import first_differences
from evals.models.http.transport import CallFailed, Transport
from schemas.errors import BackendError, ConfigError
from schemas.labels import Preference

_QUESTION = {"role": "user", "content": "x"}


@dataclass(frozen=True)
class Ability:
    """How label probabilities are to be had: by `token_ids`, from the `top` tokens, or not.

    `thinks` says that the model has thoughts before its answer, which need room.
    """

    logprobs: bool
    token_ids: LabelTokenIds | None = None
    thinks: bool = False

    def to_json(self) -> str:
        """One line that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Ability":
        """What `to_json` wrote."""
        value = json.loads(text)
        ids = value["token_ids"]
        if ids is not None:
            firsts = {Preference(label): i for label, i in ids["firsts"].items()}
            ids = LabelTokenIds(ids["shared"], firsts)
        return cls(value["logprobs"], ids, value.get("thinks", False))

    def fields(self, server: JudgeServer, max_tokens: int) -> dict[str, Any]:
        """The request's fields about tokens."""
        if self.token_ids is not None:
            return {
                server.token_limit_name: len(self.token_ids.shared) + 1,
                "logprobs": True,
                "top_logprobs": 20,
                "logprob_token_ids": list(self.token_ids.firsts.values()),
                "return_tokens_as_token_ids": True,
            }
        limit = {server.token_limit_name: max_tokens}
        return limit | ({"logprobs": True, "top_logprobs": 20} if self.logprobs else {})


async def find_ability(transport: Transport, server: JudgeServer) -> Ability:
    """Ask vLLM's tokeniser where the settings allow it; nothing else is asked.

    Raises:
        ConfigError: token ids are asked for, and the server does not give them.
    """
    if server.logprobs in ("none", "top"):
        return Ability(server.logprobs == "top")
    ids = await _label_token_ids(transport, server.model)
    if ids is None and server.logprobs == "token_ids":
        raise ConfigError(
            f"{server.base_url}: does not say which tokens the labels are (/tokenize, as vLLM has "
            "it); set judge.server.logprobs to auto"
        )
    return Ability(True, ids)


async def _label_token_ids(transport: Transport, model: str) -> LabelTokenIds | None:
    head = await _token_ids(transport, model, [_QUESTION], header=True)
    spelled = {}
    for label in Preference:
        answer = {"role": "assistant", "content": label.value}
        whole = head and await _token_ids(transport, model, [_QUESTION, answer], header=False)
        if not head or not whole or whole[: len(head)] != head:
            return None
        spelled[label] = whole[len(head) :]
    told_apart = first_differences(spelled)
    return LabelTokenIds(*told_apart) if told_apart else None


async def _token_ids(
    transport: Transport, model: str, messages: list[Mapping[str, str]], *, header: bool
) -> list[int] | None:
    url = transport.base_url.removesuffix("/v1") + "/tokenize"
    body = {"model": model, "messages": messages, "add_generation_prompt": header}
    try:
        status, _, content = await transport.post(url, body)
        ids = json.loads(content).get("tokens") if status == 200 else None
    except (CallFailed, BackendError, ValueError, AttributeError):
        return None
    return ids if isinstance(ids, list) and all(isinstance(i, int) for i in ids) else None
