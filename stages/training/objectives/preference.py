"""The DPO objective: pairs to losses, gradients and TRL's metric names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evals.models.chat.read_only import scored
from stages.training.data.pair_weights import effective_pairs
from stages.training.engines.choose import Engine, Scores, Terms
from stages.training.losses.config import BcoLoss, CombinedLoss, PairLoss
from stages.training.losses.pairwise import PairLogps, pair_loss, rpo_term
from stages.training.objectives.base import Columns, TreeObjective, with_router_term

TIE_NATS = 1e-3
"""A gap that is no larger is a tie: what a model's summed log-probabilities differ by when the same
pair is scored alone and packed among others. So a policy that is its reference ties everywhere."""


@dataclass(frozen=True)
class PairExample:
    """A preference pair in tokens, with the reference's summed log-probabilities (nats).

    `weight` multiplies its loss; None where pairs are not weighed.
    """

    key: str
    prompt_ids: Sequence[int]
    chosen_ids: Sequence[int]
    rejected_ids: Sequence[int]
    reference_chosen: float = 0.0
    reference_rejected: float = 0.0
    weight: float | None = None
    tail_weight: float = 1.0
    """Of the tokens by which one completion is longer than the other: see `token_weights`."""
    desirable: bool | None = None
    """Of a single completion, `chosen_ids`: whether it is good; `rejected_ids` are then another
    prompt's, by which a baseline is estimated. None for a pair."""

    @property
    def branches(self) -> tuple[Sequence[int], Sequence[int]]:
        """Chosen and rejected, both behind the one prompt."""
        return self.chosen_ids, self.rejected_ids


def pair_logps(
    model: PreTrainedModel, engine: Engine, pairs: Sequence[PairExample]
) -> tuple[Tensor, Tensor]:
    """Summed log-probabilities of chosen and of rejected completions, float64 (n,) each."""
    columns = engine.measure(model, pairs, _as_scored)
    return columns["chosen"], columns["rejected"]


def _as_scored(pairs: Sequence[PairExample], scores: Scores) -> Terms:
    chosen, rejected = scores.logps.unbind(dim=1)
    return Terms(rejected - chosen, {"chosen": chosen, "rejected": rejected})


def needs_collision(loss: PairLoss) -> bool:
    """Whether a loss, or one of several, weighs pairs by the policy's own probabilities."""
    if isinstance(loss, CombinedLoss):
        return loss.policy_weights or any(part.loss.policy_weights for part in loss.losses)
    return loss.policy_weights


def _goes_on(loss: PairLoss) -> bool:
    """Whether a loss, or one of several, goes by the mean of all steps so far."""
    if isinstance(loss, CombinedLoss):
        return any(_goes_on(part.loss) for part in loss.losses)
    return isinstance(loss, BcoLoss) and loss.shift == "running"


def _pair_logps(
    items: Sequence[PairExample],
    chosen: Tensor,
    rejected: Tensor,
    collisions: Mapping[str, Tensor | None],
    running: float | None = None,
) -> PairLogps:
    single = items[0].desirable is not None
    return PairLogps(
        chosen,
        rejected,
        chosen.new_tensor([p.reference_chosen for p in items]),
        chosen.new_tensor([p.reference_rejected for p in items]),
        chosen.new_tensor([scored(p.chosen_ids) for p in items]),
        chosen.new_tensor([scored(p.rejected_ids) for p in items]),
        **collisions,
        desirable=chosen.new_tensor([bool(p.desirable) for p in items]).bool() if single else None,
        running_log_ratio=running,
    )


class PreferenceObjective(TreeObjective[PairExample]):
    """Mean over a step's pairs of a preference loss against a reference policy.

    Weights have mean 1 over all training pairs, so a step is divided by its number of pairs: the
    mean over an epoch is the weighted mean, whatever the batches are.
    """

    unit = "pair"

    def __init__(self, loss: PairLoss, engine: Engine | None = None) -> None:
        super().__init__(engine)
        self.loss = loss
        self.looks_at_batch = loss.looks_at_batch
        self.needs_collision = needs_collision(loss)
        self._seen: dict[str, tuple[float, float, float]] = {}
        self.remembered = {"log_ratios": 0.0, "mean_log_ratio": 0.0} if _goes_on(loss) else {}

    def key(self, item: PairExample) -> str:
        """The pair's id."""
        return item.key

    def denominator(self, items: Sequence[PairExample]) -> float:
        """Pairs of the step."""
        return len(items)

    def see_batch(
        self, items: Sequence[PairExample], columns: Columns, *, training: bool = False
    ) -> Columns:
        """Take loss and slopes of every pair from the whole step.

        The gradient of a step is then the sum over pairs of slope * gradient of log p, whatever
        passes the pairs go through the model in.
        """
        chosen = columns["chosen"].clone().requires_grad_()
        rejected = columns["rejected"].clone().requires_grad_()
        given = {n: columns.get(n) for n in ("chosen_collision", "rejected_collision")}
        logps = _pair_logps(items, chosen, rejected, given, self._running(columns, training))
        losses = self._weighed(items, logps)
        slopes = torch.autograd.grad(losses.sum(), (chosen, rejected), materialize_grads=True)
        table = torch.stack([losses.detach(), *slopes], dim=1).tolist()
        rows = zip(items, table, strict=True)
        self._seen = {item.key: (loss, up, down) for item, (loss, up, down) in rows}
        return {**columns, "loss": losses.detach()}

    def _running(self, columns: Columns, training: bool) -> float | None:
        """The mean log-ratio of all completions so far, those of a step that is trained on too."""
        if not self.remembered:
            return None
        count, mean = self.remembered["log_ratios"], self.remembered["mean_log_ratio"]
        if training:
            both = torch.cat([columns["chosen_log_ratio"], columns["rejected_log_ratio"]])
            mean = (count * mean + float(both.sum())) / (count + len(both))
            count += len(both)
            self.remembered |= {"log_ratios": count, "mean_log_ratio": mean}
        return mean

    def terms(self, items: Sequence[PairExample], scores: Scores) -> Terms:
        """Losses of pairs, and what `summarise` reports."""
        chosen, rejected = scores.logps.unbind(dim=1)
        collisions = (None, None) if scores.collision is None else scores.collision.unbind(dim=1)
        given = dict(zip(("chosen_collision", "rejected_collision"), collisions, strict=True))
        logps = _pair_logps(items, chosen, rejected, given)
        columns = {
            "chosen": logps.chosen.detach(),
            "rejected": logps.rejected.detach(),
            "chosen_log_ratio": logps.chosen_log_ratio.detach(),
            "rejected_log_ratio": logps.rejected_log_ratio.detach(),
            "nll": rpo_term(logps.chosen, logps.chosen_tokens).detach(),
        }
        columns |= {name: values for name, values in given.items() if values is not None}
        if items[0].weight is not None:
            columns["weight"] = chosen.new_tensor([p.weight for p in items])
        if logps.desirable is not None:
            columns["desirable"] = logps.desirable.double()
        if scores.logps.requires_grad and self.looks_at_batch:
            return Terms(self._as_seen(items, chosen, rejected), columns)
        return Terms(self._weighed(items, logps), columns)

    def _weighed(self, items: Sequence[PairExample], logps: PairLogps) -> Tensor:
        loss = pair_loss(self.loss, logps)
        if items[0].weight is None:
            return loss
        return logps.chosen.new_tensor([p.weight for p in items]) * loss

    def _as_seen(self, items: Sequence[PairExample], chosen: Tensor, rejected: Tensor) -> Tensor:
        """Losses with the values and the slopes of the whole step."""
        seen = chosen.new_tensor([self._seen[item.key] for item in items])
        surrogate = seen[:, 1] * chosen + seen[:, 2] * rejected
        return surrogate + (seen[:, 0] - surrogate.detach())

    def summarise(self, columns: Columns) -> dict[str, float]:
        """Means over pairs.

        rewards/* are beta times log-ratios; rewards/accuracies counts a tie as half, and
        rewards/tie_rate says how many there are; log_ratio_gap is the margin without beta, to
        compare across betas; nll_loss is the chosen completion's, per token. Only `loss` is
        weighted; effective_pairs says how many pairs it is the mean of (see `effective_pairs`).
        """
        if "desirable" in columns:
            return with_router_term(self._of_singles(columns), columns, "preference_loss")
        beta = self.loss.beta
        gap = columns["chosen_log_ratio"] - columns["rejected_log_ratio"]
        wins, ties = (gap > TIE_NATS).double(), (gap.abs() <= TIE_NATS).double()
        chosen = beta * float(columns["chosen_log_ratio"].mean())
        rejected = beta * float(columns["rejected_log_ratio"].mean())
        metrics = {}
        if "weight" in columns:
            metrics["effective_pairs"] = effective_pairs(columns["weight"].numpy())
        metrics |= {
            "loss": float(columns["loss"].mean()),
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
            "rewards/accuracies": float((wins + ties / 2).mean()),
            "rewards/tie_rate": float(ties.mean()),
            "logps/chosen": float(columns["chosen"].mean()),
            "logps/rejected": float(columns["rejected"].mean()),
            "log_ratio_gap": float(gap.mean()),
            "nll_loss": float(columns["nll"].mean()),
        }
        return with_router_term(metrics, columns, "preference_loss")

    def _of_singles(self, columns: Columns) -> dict[str, float]:
        """The same names, chosen being the good completions and rejected the bad ones.

        rewards/accuracies is the share of completions on the right side of the baseline, `kl`.
        """
        beta, good = self.loss.beta, columns["desirable"].bool()
        ratio, baseline = columns["chosen_log_ratio"], columns["rejected_log_ratio"].mean()
        ahead = torch.where(good, ratio - baseline.clamp(min=0), baseline.clamp(min=0) - ratio)
        wins, ties = (ahead > TIE_NATS).double(), (ahead.abs() <= TIE_NATS).double()
        metrics = {
            "loss": float(columns["loss"].mean()),
            "rewards/accuracies": float((wins + ties / 2).mean()),
            "rewards/tie_rate": float(ties.mean()),
            "kl": max(0.0, float(baseline)),
        }
        for name, rows in (("chosen", good), ("rejected", ~good)):
            if rows.any():
                metrics[f"rewards/{name}"] = beta * float(ratio[rows].mean())
                metrics[f"logps/{name}"] = float(columns["chosen"][rows].mean())
        if good.any():
            metrics["nll_loss"] = float(columns["nll"][good].mean())
        if good.any() and (~good).any():
            gap = float(ratio[good].mean() - ratio[~good].mean())
            metrics |= {"rewards/margins": beta * gap, "log_ratio_gap": gap}
        return metrics
