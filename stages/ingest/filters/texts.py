"""What an example says, as plain texts."""

from schemas.labels import Message, Messages
from stages.ingest.examples import ComparisonExample, DemonstrationExample, Example


def text(messages: Messages) -> str:
    """All turns of a conversation as one text, a line feed between them; calls of tools too."""
    return "\n".join(map(_turn, messages))


def _turn(message: Message) -> str:
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    said = [f"{call['name']}({call['arguments']})" for call in calls]
    return "\n".join([*([message["content"]] if message["content"] or not said else []), *said])


def completions(example: Example) -> list[str]:
    """The texts of the answers: two of a comparison, one of a demonstration, none of a prompt."""
    if isinstance(example, ComparisonExample):
        return [text(example.completion_a), text(example.completion_b)]
    return [text(example.completion)] if isinstance(example, DemonstrationExample) else []
