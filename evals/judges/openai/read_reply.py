"""From a reply to a verdict, or to the wish to ask again."""

from dataclasses import replace

from evals.judges.kinds.rule import certain
from evals.judges.openai.label_logprobs import LabelTokenIds, masses_by_id, masses_by_text
from evals.judges.openai.parse_verdict import is_refusal, last_verdict
from evals.judges.openai.replies import Reply
from evals.judges.scoring.label_masses import verdict_of_masses
from schemas.labels import Unscored, Verdict

_SHOWN_CHARACTERS = 100


def read_verdict(
    reply: Reply, min_label_mass: float, token_ids: LabelTokenIds | None, by_logprobs: bool
) -> Verdict | None:
    """The verdict that a reply holds; None where it states none, and asking again may help.

    Log-probabilities decide where they were asked for and are there; else the text does.
    """
    verdict = _verdict(reply, min_label_mass, token_ids, by_logprobs)
    return verdict and replace(
        verdict,
        raw=reply.content,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
    )


def _verdict(
    reply: Reply, min_label_mass: float, token_ids: LabelTokenIds | None, by_logprobs: bool
) -> Verdict | None:
    if reply.refusal:
        return _refused(reply.refusal)
    if by_logprobs:
        masses = masses_by_id(reply, token_ids) if token_ids else None
        masses = masses_by_text(reply) if masses is None else masses
        if masses is not None:
            verdict = verdict_of_masses(masses, min_label_mass)
            failed = isinstance(verdict, Unscored)
            return _refused(reply.content) if failed and is_refusal(reply.content) else verdict
    label = last_verdict(reply.content)
    if label is not None:
        return certain(label)
    return _refused(reply.content) if is_refusal(reply.content) else None


def _refused(said: str) -> Unscored:
    return Unscored("refused", said[:_SHOWN_CHARACTERS])
