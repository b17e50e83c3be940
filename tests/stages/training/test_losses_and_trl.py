"""Every loss that TRL has too, against TRL's own code on the same log-probabilities."""

import warnings
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from stages.training.losses.config import (
    AotLoss,
    ApoDownLoss,
    ApoZeroLoss,
    BcoLoss,
    CombinedLoss,
    DiscoPopLoss,
    ExoLoss,
    HingeLoss,
    IpoLoss,
    KtoLoss,
    LengthNormalisedLoss,
    NcaLoss,
    OrpoLoss,
    PairLoss,
    SigmoidLoss,
    SimpoLoss,
    SppoLoss,
)
from stages.training.losses.pairwise import PairLogps, pair_loss

pytestmark = pytest.mark.trl

PROMPT, LENGTHS = 3, ((4, 2), (1, 5), (5, 5))  # completion tokens of chosen and rejected


@pytest.fixture(scope="module")
def trl() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.experimental.cpo import CPOTrainer
        from trl.experimental.orpo import ORPOTrainer
        from trl.trainer.dpo_trainer import DPOTrainer
        from trl.trainer.kto_trainer import KTOTrainer
    return SimpleNamespace(dpo=DPOTrainer, cpo=CPOTrainer, orpo=ORPOTrainer, kto=KTOTrainer)


def token_logps(seed: int) -> torch.Tensor:
    """Per-token log-probabilities (6, length): chosen rows, then rejected rows."""
    generator = torch.Generator().manual_seed(seed)
    return -3 * torch.rand(6, PROMPT + 5, generator=generator, dtype=torch.float64)


def completion_mask() -> torch.Tensor:
    lengths = [pair[side] for side in (0, 1) for pair in LENGTHS]
    places = torch.arange(PROMPT + 5)
    return torch.stack([(places >= PROMPT) & (places < PROMPT + n) for n in lengths]).long()


def sums(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed over the completion: chosen (3,) and rejected (3,)."""
    chosen, rejected = (token_logps(seed) * completion_mask()).sum(dim=1).chunk(2)
    return chosen, rejected


def our_logps() -> PairLogps:
    tokens = torch.tensor(LENGTHS, dtype=torch.float64).T
    return PairLogps(*sums(1), *sums(2), tokens[0], tokens[1])


def dpo_loss(trl: Any, loss_types: list[str], rows: slice, **settings: Any) -> float:
    """TRL's DPOTrainer._compute_loss with a model that says what it is told."""
    pairs = torch.arange(6).view(2, 3)[:, rows].flatten()
    mask = completion_mask()[pairs]
    scores = (token_logps(1) * completion_mask())[pairs][:, 1:]
    outputs = SimpleNamespace(
        log_probs=scores, entropy=scores, mean_logits=scores, is_top1=scores > 0
    )
    same = SimpleNamespace(
        device="cpu", gather=lambda tensor: tensor, gather_for_metrics=lambda tensor: tensor
    )
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=False),
        accelerator=same,
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type=settings.pop("divergence", "reverse_kl"),
        use_weighting=False,
        loss_types=loss_types,
        loss_weights=settings.pop("loss_weights", [1.0] * len(loss_types)),
        _metrics={"eval": {name: [] for name in METRICS}},
        _total_train_tokens=0,
        **settings,
    )
    chosen, rejected = sums(2)
    inputs = {
        "input_ids": torch.zeros_like(mask),
        "attention_mask": torch.ones_like(mask),
        "completion_mask": mask,
        "ref_chosen_logps": chosen[rows],
        "ref_rejected_logps": rejected[rows],
    }
    loss = trl.dpo._compute_loss(trainer, lambda **_: outputs, inputs, return_outputs=False)
    return float(loss)


SIDES = ("chosen", "rejected")
METRICS = (
    *("entropy", "num_tokens", "mean_token_accuracy", "aux_loss"),
    *(
        f"{what}/{side}"
        for what in ("logits", "logps", "rewards")
        for side in ("chosen", "rejected")
    ),
    *("rewards/accuracies", "rewards/margins"),
)


@pytest.mark.parametrize(
    ("name", "ours", "smoothing"),
    [
        ("sigmoid", SigmoidLoss(beta=0.3), 0.0),
        ("robust", SigmoidLoss(beta=0.3, label_smoothing=0.2, smoothing="robust"), 0.2),
        ("hinge", HingeLoss(beta=0.3), 0.0),
        ("ipo", IpoLoss(beta=0.3, per_token=True), 0.0),
        ("sigmoid_norm", LengthNormalisedLoss(beta=2.5), 0.0),
        ("apo_zero", ApoZeroLoss(beta=0.3), 0.0),
        ("apo_down", ApoDownLoss(beta=0.3), 0.0),
        ("exo_pair", ExoLoss(beta=0.3, label_smoothing=0.2), 0.2),
        ("nca_pair", NcaLoss(beta=0.3), 0.0),
        ("sppo_hard", SppoLoss(beta=0.3), 0.0),
        ("bco_pair", BcoLoss(beta=0.3, shift="none"), 0.0),
        ("aot", AotLoss(beta=0.3, label_smoothing=0.2), 0.2),
        ("aot_unpaired", AotLoss(beta=0.3, paired=False), 0.0),
        ("discopop", DiscoPopLoss(beta=0.3, temperature=0.07), 0.0),
    ],
)
def test_losses_with_a_reference(trl: Any, name: str, ours: PairLoss, smoothing: float) -> None:
    settings: dict[str, Any] = {"beta": ours.beta, "label_smoothing": smoothing}
    settings["args"] = SimpleNamespace(discopop_tau=getattr(ours, "temperature", None))
    theirs = dpo_loss(trl, [name], slice(0, 3), **settings)
    assert float(pair_loss(ours, our_logps()).mean()) == pytest.approx(theirs, abs=1e-7)
    assert theirs > 0.01


@pytest.mark.parametrize(("name", "ours"), [("forward_kl", "forward_kl"), ("js_divergence", "js")])
@pytest.mark.parametrize("kind", ["sigmoid", "hinge", "exo_pair"])
def test_f_divergences(trl: Any, name: str, ours: Any, kind: str) -> None:
    made: dict[str, PairLoss] = {
        "sigmoid": SigmoidLoss(beta=0.3, divergence=ours),
        "hinge": HingeLoss(beta=0.3, divergence=ours),
        "exo_pair": ExoLoss(beta=0.3, label_smoothing=0.2, divergence=ours),
    }
    theirs = dpo_loss(trl, [kind], slice(0, 3), divergence=name, beta=0.3, label_smoothing=0.2)
    assert float(pair_loss(made[kind], our_logps()).mean()) == pytest.approx(theirs, abs=1e-7)


def test_several_losses_at_once(trl: Any) -> None:
    parts = [(0.8, SigmoidLoss(beta=0.3)), (0.2, BcoLoss(beta=0.3, shift="none"))]
    ours = CombinedLoss.model_validate(
        {"losses": [{"weight": w, "loss": one.model_dump()} for w, one in parts]}
    )
    theirs = dpo_loss(trl, ["sigmoid", "bco_pair"], slice(0, 3), beta=0.3, loss_weights=[0.8, 0.2])
    assert float(pair_loss(ours, our_logps()).mean()) == pytest.approx(theirs, abs=1e-7)


def test_the_rpo_term_of_one_pair_is_trls_sft_loss(trl: Any) -> None:
    """Of several pairs TRL takes the mean over all tokens, the paper the mean over pairs."""
    loss = pair_loss(SigmoidLoss(beta=0.3, rpo_alpha=0.7), our_logps())
    for row in range(3):
        theirs = dpo_loss(
            trl, ["sigmoid", "sft"], slice(row, row + 1), beta=0.3, loss_weights=[1.0, 0.7]
        )
        assert float(loss[row]) == pytest.approx(theirs, abs=1e-7)


def test_conservative_smoothing(trl: Any) -> None:
    """In TRL with CPO, whose loss takes any two scores; here log-ratios."""
    logps = our_logps()
    trainer = SimpleNamespace(
        alpha=0.0, beta=0.3, loss_type="sigmoid", label_smoothing=0.2, accelerator=on_cpu()
    )
    theirs, _, _ = trl.cpo.cpo_loss(trainer, logps.chosen_log_ratio, logps.rejected_log_ratio)
    ours = pair_loss(SigmoidLoss(beta=0.3, label_smoothing=0.2), logps)
    assert ours.tolist() == pytest.approx(theirs.tolist(), abs=1e-9)


def test_simpo(trl: Any) -> None:
    logps = our_logps()
    trainer = SimpleNamespace(
        alpha=0.0,
        beta=2.0,
        simpo_gamma=0.8,
        loss_type="simpo",
        label_smoothing=0.0,
        accelerator=on_cpu(),
    )
    per_token = (logps.chosen / logps.chosen_tokens, logps.rejected / logps.rejected_tokens)
    theirs, _, _ = trl.cpo.cpo_loss(trainer, *per_token)
    ours = pair_loss(SimpoLoss(beta=2.0, margin=0.8), logps)
    assert ours.tolist() == pytest.approx(theirs.tolist(), abs=1e-9)


def test_orpo(trl: Any) -> None:
    """TRL returns beta * log sigmoid(log odds ratio), which its step subtracts from the NLL."""
    logps = our_logps()
    trainer = SimpleNamespace(beta=0.4, accelerator=on_cpu())
    per_token = (logps.chosen / logps.chosen_tokens, logps.rejected / logps.rejected_tokens)
    theirs, *_ = trl.orpo.odds_ratio_loss(trainer, *per_token)
    ours = pair_loss(OrpoLoss(beta=0.4), logps)
    expected = -per_token[0] - theirs
    assert ours.tolist() == pytest.approx(expected.tolist(), abs=1e-5)  # theirs is float32


def on_cpu() -> SimpleNamespace:
    return SimpleNamespace(device="cpu")


def test_kto_is_trls(trl: Any) -> None:
    """Six completions, good and bad, and their baseline from six mismatched ones."""
    good = torch.tensor([True, False, True, True, False, False])
    policy, reference, drift, drift_before = (
        (token_logps(seed) * completion_mask()).sum(dim=1) for seed in (1, 2, 3, 4)
    )
    loss = KtoLoss(beta=0.3, desirable_weight=1.2, undesirable_weight=0.7)
    lengths = torch.ones(6, dtype=torch.float64)
    logps = PairLogps(policy, drift, reference, drift_before, lengths, lengths, desirable=good)
    scores = (token_logps(1) * completion_mask())[:, 1:]
    outputs = SimpleNamespace(
        log_probs=scores, entropy=scores, mean_logits=scores, is_top1=scores > 0
    )
    same = SimpleNamespace(
        device="cpu", gather=lambda tensor: tensor, gather_for_metrics=lambda tensor: tensor
    )
    recorded: Any = defaultdict(list)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=False),
        accelerator=same,
        aux_loss_enabled=False,
        precompute_ref_logps=True,
        calculate_KL=True,
        loss_type="kto",
        beta=0.3,
        desirable_weight=1.2,
        undesirable_weight=0.7,
        _compute_kl_logps=lambda model, batch: drift,
        _metrics={"eval": recorded, "train": recorded},
        _total_train_tokens=0,
    )
    inputs = {
        "input_ids": torch.zeros_like(completion_mask()),
        "attention_mask": torch.ones_like(completion_mask()),
        "completion_mask": completion_mask(),
        "label": good,
        "ref_logps": reference,
        "ref_KL_logps": drift_before,
    }
    theirs = trl.kto._compute_loss(trainer, lambda **_: outputs, inputs, return_outputs=False)
    assert float(pair_loss(loss, logps).mean()) == pytest.approx(float(theirs), abs=1e-7)
