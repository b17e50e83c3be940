"""Label probabilities from the log-probabilities that a server gives with its reply."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evals.judges.openai.replies import Reply, TokenChoice
from evals.judges.verdicts.labels import DECORATION
from evals.judges.verdicts.reading import last_verdict
from schemas.labels import Preference

Masses = Mapping[Preference, float]


@dataclass(frozen=True)
class LabelTokenIds:
    """Ids of the labels' tokens: what all begin with, then the first that differ."""

    shared: Sequence[int]
    firsts: Mapping[Preference, int]


def masses_by_id(reply: Reply, labels: LabelTokenIds) -> Masses | None:
    """Probabilities of the label tokens where the server names tokens `token_id:...`.

    None where the reply does not hold all of them at the place where the label stands.
    """
    place = len(labels.shared)
    if len(reply.choices) <= place:
        return None
    before = [choice.token for choice in reply.choices[:place]]
    if before != [f"token_id:{i}" for i in labels.shared]:
        return dict.fromkeys(Preference, 0.0)
    logprobs = reply.choices[place].logprobs
    found = {label: logprobs.get(f"token_id:{i}") for label, i in labels.firsts.items()}
    return {k: math.exp(v) for k, v in found.items() if v is not None} if _all(found) else None


def _all(found: Mapping[Preference, float | None]) -> bool:
    return all(value is not None for value in found.values())


def masses_by_text(reply: Reply) -> Masses | None:
    """Probabilities of the labels among the likeliest tokens; None without log-probabilities.

    Read at the first token that is more than white space and decoration. A label of several tokens
    ("T", "ie") counts by its first, as it does for a model in this process. Where the token that
    was written did not become the label that it begins, its probability is not counted.
    """
    choice = next((c for c in reply.choices if c.token.strip(DECORATION)), None)
    if choice is None:
        return None
    misread = _written(choice, reply)
    masses = dict.fromkeys(Preference, 0.0)
    for token, logprob in choice.logprobs.items():
        label = begun_label(token)
        if label is not None and token != misread:
            masses[label] += math.exp(logprob)
    return masses


def begun_label(token: str) -> Preference | None:
    """The one label that a token is, or begins."""
    text = token.strip(DECORATION)
    if text in ("A", "B"):
        return Preference(text)
    tie = Preference.TIE.casefold()
    return Preference.TIE if text and tie.startswith(text.casefold()) else None


def _written(choice: TokenChoice, reply: Reply) -> str | None:
    """The written token, where it looks like a label and the reply turned into something else."""
    label = begun_label(choice.token)
    if label is None:
        return None
    first_line = reply.content.strip().partition("\n")[0]
    return None if last_verdict(first_line) is label else choice.token


def begins_the_answer(reply: Reply) -> bool:
    """Whether the first tokens with log-probabilities are those that the answer begins with.

    Servers of models that think may give those of the thoughts, and the answer alone.
    """
    choice = next((c for c in reply.choices if c.token.strip()), None)
    if choice is None or choice.token.startswith("token_id:"):
        return True
    token, answer = choice.token.strip(), reply.content.strip()
    return bool(answer) and (answer.startswith(token) or token.startswith(answer))
