"""Chat-arena votes: one prompt, two models' conversations, and a person who said which is better.

Read are the columns of lmsys/chatbot_arena_conversations and its successors (`winner`,
`conversation_a`, `conversation_b`) and of lmsys/lmsys-arena-human-preference-55k (`prompt`,
`response_a`, `response_b`, one `winner_*` column set to 1).
"""

import json
from collections.abc import Mapping
from typing import Any

from schemas.labels import Message, Preference
from stages.ingest.datasets.config import ArenaDataset
from stages.ingest.examples import (
    Annotation,
    ComparisonExample,
    RowError,
    check_comparison,
    field,
    messages_field,
    number_field,
    optional_text,
    split_history,
    text_field,
)
from stages.ingest.readers.sources import FileReader

BOTH_BAD = "both bad"
_WINNERS = {
    "model_a": Preference.A,
    "model_b": Preference.B,
    "tie": Preference.TIE,
    "both_bad": Preference.TIE,
    "tie_bothbad": Preference.TIE,
}
_ONE_HOT = {
    "winner_model_a": Preference.A,
    "winner_model_b": Preference.B,
    "winner_tie": Preference.TIE,
}
Turns = list[Message]


class ArenaReader(FileReader[ArenaDataset]):
    """Rows of Arena."""

    def parse(self, row: Mapping[str, Any]) -> ComparisonExample:
        """One row as a comparison. Raises RowError."""
        label, said = _stated(row) if "winner" in row else _one_hot(row)
        if said == BOTH_BAD and self.config.both_bad == "reject":
            raise RowError("both_bad", "the voter found both answers bad")
        prompt, a, b = split_history(_side(row, "a"), _side(row, "b"))
        example = ComparisonExample(
            prompt,
            a,
            b,
            label,
            annotations=[Annotation(label, None, said, optional_text(row, "judge"))],
            category=optional_text(row, "category"),
            language=optional_text(row, "language"),
        )
        return check_comparison(example, "completion_a", "completion_b")


def _stated(row: Mapping[str, Any]) -> tuple[Preference, str | None]:
    """`winner` in any of its spellings: model_a, tie, tie (bothbad), both_bad."""
    winner = text_field(row, "winner")
    code = winner.replace("(", "").replace(")", "").replace(" ", "_")
    if code not in _WINNERS:
        raise RowError("unknown_label", f"winner is {winner!r}, must be one of {list(_WINNERS)}")
    return _WINNERS[code], BOTH_BAD if code.endswith(("bothbad", "both_bad")) else None


def _one_hot(row: Mapping[str, Any]) -> tuple[Preference, None]:
    won = [label for name, label in _ONE_HOT.items() if number_field(row, name) == 1]
    if len(won) != 1:
        raise RowError("unknown_label", f"{len(won)} of {', '.join(_ONE_HOT)} are 1, must be one")
    return won[0], None


def _side(row: Mapping[str, Any], side: str) -> Turns:
    """One model's whole conversation, prompt included."""
    if f"conversation_{side}" in row:
        return messages_field(_with_plain_text(row, f"conversation_{side}"), f"conversation_{side}")
    asked, answered = _texts(row, "prompt"), _texts(row, f"response_{side}")
    if len(asked) != len(answered):
        raise RowError("turns_differ", f"{len(asked)} prompts and {len(answered)} answers")
    return [
        message
        for question, answer in zip(asked, answered, strict=True)
        for message in (
            Message(role="user", content=question),
            Message(role="assistant", content=answer),
        )
    ]


def _texts(row: Mapping[str, Any], name: str) -> list[str]:
    """One text per turn: a list, or, as in the published CSV, a list written as JSON."""
    value = field(row, name)
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise RowError("invalid_json", f"{name}: {error}") from error
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts:
        raise RowError("wrong_type", f"{name} must be a list of texts")
    if not all(isinstance(text, str) for text in texts):
        raise RowError("empty_turn", f"{name} has a turn without text")
    return texts


def _with_plain_text(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The turns with what was said and nothing else; newer files hold it as a list of parts."""
    turns = field(row, name)
    if not isinstance(turns, list):
        return row
    return {name: [_plain_turn(turn) for turn in turns]}


def _plain_turn(turn: Any) -> Any:
    """Votes keep counts and moderation beside a turn, which are no part of what was said."""
    if not isinstance(turn, Mapping):
        return turn
    return {name: turn.get(name) for name in ("role", "content")}
