"""Losses against published values and arithmetic done by hand."""

import math
from dataclasses import replace

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

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
    Loss,
    NcaLoss,
    OrpoLoss,
    PairLoss,
    SftLoss,
    SigmoidLoss,
    SimpoLoss,
    SppoLoss,
)
from stages.training.losses.pairwise import (
    PairLogps,
    conservative_sigmoid_loss,
    pair_loss,
    robust_sigmoid_loss,
    sigmoid_loss,
)

TWO = ([-2.0, -1.5], [-3.0, -4.0], [-2.5, -2.0], [-2.5, -3.0])
THREE = ([-2, -1.5, -1.8], [-3.5, -3, -3.2], [-2.5, -2, -2.3], [-3, -2.8, -3])
EXCHANGED = (THREE[1], THREE[0], THREE[2], THREE[3])
ALL_LOSSES: list[PairLoss] = [
    SigmoidLoss(),
    SigmoidLoss(label_smoothing=0.2),
    SigmoidLoss(label_smoothing=0.2, smoothing="robust"),
    IpoLoss(),
    HingeLoss(),
]


def pairs(*columns: list[float]) -> PairLogps:
    chosen, rejected, *reference = torch.tensor(columns, dtype=torch.float64)
    ones = torch.ones_like(chosen)
    return PairLogps(chosen, rejected, reference[0], reference[1], 4 * ones, 2 * ones)


@pytest.mark.parametrize(
    ("columns", "beta", "expected"),
    [
        (TWO, 0.05, 0.662405),
        (TWO, 0.1, 0.632677),
        (TWO, 0.5, 0.430474),
        (THREE, 0.1, 0.653972),
        (THREE, 0.5, 0.513614),
        (THREE, 1.0, 0.373211),
        (EXCHANGED, 0.1, 0.805511),
        (EXCHANGED, 0.5, 1.362800),
        (EXCHANGED, 1.0, 2.245998),
    ],
)
def test_sigmoid_values_to_hold(
    columns: tuple[list[float], ...], beta: float, expected: float
) -> None:
    loss = pair_loss(SigmoidLoss(beta=beta), pairs(*columns))
    assert float(loss.mean()) == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize("beta", [0.01, 0.1, 0.5, 1.0, 10.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_sigmoid_is_ln_2_where_policy_and_reference_agree(beta: float, smoothing: float) -> None:
    same = pairs([-2, -90.0], [-3, -7.0], [-2, -90.0], [-3, -7.0])
    loss = pair_loss(SigmoidLoss(beta=beta, label_smoothing=smoothing), same)
    assert loss.tolist() == pytest.approx([math.log(2)] * 2, abs=1e-12)


def test_hand_arithmetic_of_the_other_losses() -> None:
    one = pairs([-1.0], [-5.0], [-2.0], [-3.0])  # gap = 1 - (-2) = 3
    assert pair_loss(IpoLoss(beta=0.25), one).item() == pytest.approx((3 - 2) ** 2)
    # Per token (4 chosen, 2 rejected): 1 / 4 - (-2 / 2) = 1.25.
    assert pair_loss(IpoLoss(beta=0.25, per_token=True), one).item() == pytest.approx(
        (1.25 - 2) ** 2
    )
    assert pair_loss(HingeLoss(beta=0.1), one).item() == pytest.approx(0.7)
    assert pair_loss(HingeLoss(beta=0.5), one).item() == 0
    wins, loses = math.log(1 + math.exp(-0.3)), math.log(1 + math.exp(0.3))
    gap = one.gap
    assert sigmoid_loss(gap, 0.1).item() == pytest.approx(wins)
    assert conservative_sigmoid_loss(gap, 0.1, 0.2).item() == pytest.approx(
        0.8 * wins + 0.2 * loses
    )
    assert robust_sigmoid_loss(gap, 0.1, 0.2).item() == pytest.approx(
        (0.8 * wins - 0.2 * loses) / 0.6
    )


@pytest.mark.parametrize("loss", ALL_LOSSES, ids=repr)
def test_rpo_term_adds_the_chosen_nll_per_token(loss: PairLoss) -> None:
    logps = pairs(*TWO)
    more = loss.model_copy(update={"rpo_alpha": 0.5})
    added = pair_loss(more, logps) - pair_loss(loss, logps)
    assert added.tolist() == pytest.approx([0.5 * 2 / 4, 0.5 * 1.5 / 4])


@pytest.mark.parametrize("loss", ALL_LOSSES, ids=repr)
def test_a_step_down_the_gradient_prefers_chosen(loss: PairLoss) -> None:
    chosen, rejected = (torch.tensor([-4.0], requires_grad=True) for _ in range(2))
    reference, count = torch.tensor([-4.0]), torch.tensor([3.0])
    logps = PairLogps(chosen, rejected, reference, reference, count, count)
    pair_loss(loss, logps).sum().backward()  # type: ignore[no-untyped-call]
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert chosen.grad.item() < 0 < rejected.grad.item()


def test_extreme_gaps_stay_finite() -> None:
    far = pairs([-1e4, -1.0], [-1.0, -1e4], [-1.0, -1.0], [-1.0, -1.0])
    assert pair_loss(SigmoidLoss(beta=1.0), far).isfinite().all()


def test_kind_picks_the_loss_and_a_wrong_one_names_the_legal_ones() -> None:
    adapter: TypeAdapter[Loss] = TypeAdapter(Loss)
    assert adapter.validate_python({"kind": "ipo", "beta": 0.2}) == IpoLoss(beta=0.2)
    with pytest.raises(ValidationError, match="'sigmoid', 'ipo', 'hinge'"):
        adapter.validate_python({"kind": "ppo"})


def test_simpo_by_hand() -> None:
    # Per token: chosen -2 / 4 = -0.5, rejected -3 / 2 = -1.5; 2 * 1 - 1 = 1.
    loss = pair_loss(SimpoLoss(beta=2.0, margin=1.0), pairs([-2.0], [-3.0], [0.0], [0.0]))
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-1)))


def test_orpo_by_hand() -> None:
    # Per token: p(chosen) = 1/2, odds 1; p(rejected) = 1/5, odds 1/4; sigmoid(log 4) = 4/5.
    logps = pairs([4 * math.log(1 / 2)], [2 * math.log(1 / 5)], [0.0], [0.0])
    expected = math.log(2) + 0.3 * math.log(5 / 4)
    assert float(pair_loss(OrpoLoss(beta=0.3), logps)) == pytest.approx(expected)
    certain = pairs([0.0], [-2.0], [0.0], [0.0])
    assert math.isfinite(float(pair_loss(OrpoLoss(), certain)))


def test_length_normalised_by_hand() -> None:
    # Log-ratios per token: chosen 2 / 4, rejected -1 / 2; gap 1.
    loss = pair_loss(LengthNormalisedLoss(beta=3.0), pairs([-2.0], [-3.0], [-4.0], [-2.0]))
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-3)))


# Gap 3: log-ratios 1 and -2; per completion 4 and 2 tokens.
ONE = pairs([-1.0], [-5.0], [-2.0], [-3.0])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (ApoZeroLoss(beta=0.5), (1 - sigmoid(0.5)) + sigmoid(-1.0)),
        (ApoDownLoss(beta=0.5), sigmoid(0.5) + 1 - sigmoid(1.5)),
        (
            ExoLoss(beta=0.5, label_smoothing=0.1),
            sigmoid(1.5) * math.log(sigmoid(1.5) / 0.9)
            + sigmoid(-1.5) * math.log(sigmoid(-1.5) / 0.1),
        ),
        (
            NcaLoss(beta=0.5),
            -math.log(sigmoid(0.5)) - 0.5 * math.log(sigmoid(-0.5)) - 0.5 * math.log(sigmoid(1.0)),
        ),
        (SppoLoss(beta=0.25), (1 - 2) ** 2 + (-2 + 2) ** 2),
        (
            DiscoPopLoss(beta=0.5, temperature=0.75),
            -math.log(sigmoid(1.5)) * (1 - sigmoid(2)) + math.exp(-1.5) * sigmoid(2),
        ),
        (BcoLoss(beta=0.5, shift="none"), -math.log(sigmoid(0.5)) - math.log(sigmoid(1.0))),
        # The threshold is the mean of the rewards 0.5 and -1.
        (BcoLoss(beta=0.5), -math.log(sigmoid(0.75)) - math.log(sigmoid(-0.25 + 1.0))),
        (SftLoss(), 1 / 4),
        # f'(t) = 1 - 1 / t, log(2 t / (t + 1)), 2 (1 - t^-0.5), at t = e and e^-2.
        (
            SigmoidLoss(beta=1.0, divergence="forward_kl"),
            -math.log(sigmoid(-math.exp(-1) + math.exp(2))),
        ),
        (
            SigmoidLoss(beta=1.0, divergence="js"),
            -math.log(sigmoid(math.log(sigmoid(1)) - math.log(sigmoid(-2)))),
        ),
        (
            SigmoidLoss(beta=1.0, divergence="alpha", divergence_alpha=0.5),
            -math.log(sigmoid(2 * (math.exp(1) - math.exp(-0.5)))),
        ),
    ],
)
def test_further_losses_by_hand(loss: PairLoss, expected: float) -> None:
    assert float(pair_loss(loss, ONE)) == pytest.approx(expected, rel=1e-9)


def test_aot_compares_sorted_values_of_the_whole_batch() -> None:
    three = pairs([-1.0, -2.0, -3.0], [-4.0, -3.0, -1.0], [-2.0] * 3, [-1.0, -2.0, -3.0])
    # Differences of the policy 3, 1, -2; of the reference -1, 0, 1.
    expected = [-math.log(sigmoid(b)) for b in (-2 + 1, 1 - 0, 3 - 1)]
    found = pair_loss(AotLoss(beta=1.0), three)
    assert found.tolist() == pytest.approx(expected)
    # Log-ratios of chosen 1, 0, -1; of rejected -3, -1, 2.
    expected = [-math.log(sigmoid(b)) for b in (-1 + 3, 0 + 1, 1 - 2)]
    assert pair_loss(AotLoss(beta=1.0, paired=False), three).tolist() == pytest.approx(expected)


def test_several_losses_are_a_weighted_sum() -> None:
    parts = [(0.8, SigmoidLoss(beta=0.3)), (0.2, BcoLoss(beta=0.3, shift="none")), (1.0, SftLoss())]
    loss = CombinedLoss.model_validate(
        {"losses": [{"weight": w, "loss": one.model_dump()} for w, one in parts]}
    )
    expected = sum(w * float(pair_loss(one, ONE)) for w, one in parts)
    assert float(pair_loss(loss, ONE)) == pytest.approx(expected)
    assert not loss.looks_at_batch
    with_aot = {"losses": [{"loss": {"kind": "aot"}}]}
    assert CombinedLoss.model_validate(with_aot).looks_at_batch


def test_wpo_weighs_by_what_the_policy_would_write() -> None:
    one = replace(
        ONE,
        chosen_collision=torch.tensor([-0.6], dtype=torch.float64),
        rejected_collision=torch.tensor([-1.0], dtype=torch.float64),
    )
    weight = math.exp((-1 + 0.6) / 4 + (-5 + 1) / 2)
    plain, weighed = SigmoidLoss(beta=0.5), SigmoidLoss(beta=0.5, policy_weights=True)
    assert float(pair_loss(weighed, one)) == pytest.approx(weight * float(pair_loss(plain, one)))


def test_kto_by_hand() -> None:
    """A good and a bad completion; the baseline is the mean drift, or zero where that is less."""
    for drift, baseline in (([0.4, 0.8], 0.6), ([-1.0, 0.2], 0.0)):
        logps = replace(pairs([-2.0, -1.0], drift, [-3.0, -1.5], [0.0, 0.0]))
        logps = replace(logps, desirable=torch.tensor([True, False]))
        loss = KtoLoss(beta=0.5, desirable_weight=2.0, undesirable_weight=3.0)
        good = 2 * (1 - 1 / (1 + math.exp(-0.5 * (1.0 - baseline))))
        bad = 3 * (1 - 1 / (1 + math.exp(-0.5 * (baseline - 0.5))))
        assert pair_loss(loss, logps).tolist() == pytest.approx([good, bad])
