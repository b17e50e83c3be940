"""From a reply to a verdict, or to the wish to ask again."""

from dataclasses import replace

from evals.judges.openai.label_logprobs import (
    LabelTokenIds,
    begins_the_answer,
    masses_by_id,
    masses_by_text,
)
from evals.judges.openai.replies import Reply
from evals.judges.scoring.label_masses import verdict_of_masses
from evals.judges.verdicts.readings import Reading, Reads
from evals.judges.verdicts.refusals import is_refusal
from evals.judges.verdicts.thinking import without_thinking
from schemas.labels import Answer, Unscored, Verdict

_SHOWN_CHARACTERS = 100
_AS_USUAL = Reading()


def read_verdict(
    reply: Reply,
    min_label_mass: float,
    token_ids: LabelTokenIds | None,
    by_logprobs: bool,
    reading: Reads = _AS_USUAL,
) -> Answer | None:
    """The verdict that a reply holds; None where it states none, and asking again may help.

    Log-probabilities decide where they were asked for and speak of the answer; else the text does,
    as `reading` says, unless it was cut off: who knows what would have come.
    """
    verdict: Answer | None = _by_logprobs(reply, min_label_mass, token_ids) if by_logprobs else None
    if reply.refusal:
        verdict = _refused(reply.refusal)
    elif verdict is None:
        verdict = _by_text(reply, reading)
    return verdict and replace(
        verdict,
        raw=reply.content,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
    )


def thinks(reply: Reply) -> bool:
    """Whether there are thoughts before the answer."""
    return bool(reply.reasoning) or without_thinking(reply.content) != reply.content.strip()


def cut_in_thought(reply: Reply) -> bool:
    """Whether the reply ended before its answer began."""
    return reply.cut and not without_thinking(reply.content)


def why_unread(reply: Reply, reading: Reads = _AS_USUAL) -> tuple[str, str]:
    """A code for why a reply states nothing that can be read, and words."""
    answer = without_thinking(reply.content)
    code, said = reading.why_not(answer or "")
    if answer is None or cut_in_thought(reply):
        return "unclosed_thought", said
    return ("reply_cut" if reply.cut else code), said


def _by_logprobs(
    reply: Reply, min_label_mass: float, token_ids: LabelTokenIds | None
) -> Verdict | None:
    """The verdict of the label tokens; None where they are not the tokens of the answer."""
    if thinks(reply):
        return None
    masses = masses_by_id(reply, token_ids) if token_ids else None
    masses = masses_by_text(reply) if masses is None else masses
    if masses is None:
        return None
    verdict = verdict_of_masses(masses, min_label_mass)
    if isinstance(verdict, Unscored):
        if is_refusal(reply.content):
            return _refused(reply.content)
        return verdict if begins_the_answer(reply) else None
    return verdict


def _by_text(reply: Reply, reading: Reads) -> Answer | None:
    answer = without_thinking(reply.content)
    found = None if reply.cut or answer is None else reading.of(answer)
    if found is not None:
        return found
    return _refused(answer) if answer and is_refusal(answer) else None


def _refused(said: str) -> Unscored:
    return Unscored("refused", said[:_SHOWN_CHARACTERS])
