"""What an example says, as plain texts."""

from schemas.labels import Messages
from stages.ingest.examples import ComparisonExample, DemonstrationExample, Example


def text(messages: Messages) -> str:
    """All turns of a conversation as one text, a line feed between them."""
    return "\n".join(message["content"] for message in messages)


def completions(example: Example) -> list[str]:
    """The texts of the answers: two of a comparison, one of a demonstration, none of a prompt."""
    if isinstance(example, ComparisonExample):
        return [text(example.completion_a), text(example.completion_b)]
    return [text(example.completion)] if isinstance(example, DemonstrationExample) else []
