"""One chat completion, as a judge reads it."""

from collections.abc import Mapping
from typing import Any

from evals.judges.openai.replies import MalformedReply, Reply, read_reply
from evals.models.http.transport import CallFailed, Transport


async def chat(transport: Transport, body: Mapping[str, Any]) -> Reply:
    """The reply to a conversation, without the key; a content filter's refusal is one too.

    Raises:
        CallFailed: there is none, for a reason that concerns this call.
        BackendError: there will be none for any call.
    """
    try:
        answer = await transport.ask("chat/completions", body)
    except CallFailed as failure:
        if failure.reason != "content_filter":
            raise
        refusal = failure.detail or failure.reason
        return Reply(content="", refusal=refusal, prompt_tokens=0, completion_tokens=0)
    try:
        reply = read_reply(answer)
    except MalformedReply as error:
        raise CallFailed(error.reason, str(error)) from None
    return Reply.from_json(transport.redact(reply.to_json()))
