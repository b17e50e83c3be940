"""What a person is shown of a pair: safe markup, and sides that nothing gives away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from evals.audit.labels import LabelValue
from evals.audit.pairs import AuditPair
from evals.safe_text import markdown, plain, visible
from schemas.ids import seed_from


@dataclass(frozen=True)
class Turn:
    """One turn as markup."""

    role: str
    body: Markup


@dataclass(frozen=True)
class Shown:
    """A pair as one person sees it: `exchanged` where B stands first."""

    pair: AuditPair
    prompt: Sequence[Turn]
    first: Sequence[Turn]
    second: Sequence[Turn]
    exchanged: bool

    def label(self, choice: str) -> LabelValue:
        """What the table is told of a choice: `first`, `second`, `tie` or `skip`.

        Raises:
            KeyError: it is none of these.
        """
        sides: tuple[LabelValue, LabelValue] = ("B", "A") if self.exchanged else ("A", "B")
        choices: dict[str, LabelValue] = {
            "first": sides[0],
            "second": sides[1],
            "tie": "tie",
            "skip": "skip",
        }
        return choices[choice]


def shown(pair: AuditPair, annotator: str, seed: int) -> Shown:
    """A pair with its sides dealt by chance, the same at every look of this person."""
    exchanged = seed_from(seed, "sides", annotator, pair.comparison_id) % 2 == 1
    sides = [turns(pair.completion_a), turns(pair.completion_b)]
    if exchanged:
        sides.reverse()
    return Shown(pair, turns(pair.prompt), sides[0], sides[1], exchanged)


def turns(messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """Messages as markup; what a turn has beside its text, such as tool calls, is shown as code."""
    return [Turn(plain(message["role"]), body(message)) for message in messages]


def body(message: Mapping[str, Any]) -> Markup:
    """The text of a message as Markdown, and its tool calls."""
    text = message.get("content") or ""
    parts = [markdown(text)] if text else []
    for call in message.get("tool_calls") or ():
        parts.append(Markup('<pre class="call">{}</pre>').format(visible(_call(call))))
    return Markup("").join(parts) if parts else Markup('<p class="nothing">(nothing)</p>')


def _call(call: Mapping[str, Any]) -> str:
    function = call.get("function") or call
    return f"{function.get('name')}({function.get('arguments')})"
