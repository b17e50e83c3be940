"""win_rates.json: what each judge's verdicts say of the policy against its baseline."""

from typing import Any, Literal

from pydantic import Field, RootModel

from schemas.results.base import Estimate, Result
from schemas.results.measures import Measure

Conclusion = Literal["better", "worse", "cannot tell"]
ScoreScale = Literal["rate", "rating"]


class WorstCase(Result):
    """The win rate if A had lost (low) or won (high) every comparison that has no score.

    `ci_low` is the lower end of the first one's interval, `ci_high` the upper end of the other's: a
    conclusion that they do not bear out hangs on what is missing, and is withheld.
    """

    low: float
    high: float
    ci_low: float = 0.0
    ci_high: float = 1.0


class Position(Result):
    """How far the place of a completion, and not its text, decides; identical texts left out.

    `consistency`: share of comparisons scored in both orders whose two verdicts name the same side.
    `p_first`: mean soft score of whichever completion was shown first; 0.5 is unbiased.
    `gap`: mean soft score of A shown first minus A shown second; above 0 favours the first place.
    None where the verdicts cannot say (no comparison in both orders; only one order asked).
    """

    consistency: float | None = Field(None, title="Same side in both orders")
    p_first: float | None = Field(None, title="Score of whichever is shown first")
    gap: float | None = Field(None, title="Policy's score shown first, less shown second, points")
    n_both_orders: int = Field(0, title="Comparisons scored in both orders")


class Rate(Result):
    """A win rate in [0, 1], its standard error and 95% interval over `n` prompts.

    None where it could not be taken, which `reason` explains.
    """

    n: int
    win_rate: float | None = None
    standard_error: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    reason: str | None = None


class Overlap(Result):
    """How much of the data lies where a length-controlled rate is read off.

    `share_of_like_length`: share of prompts with completions of like length.
    `mean_tanh`: mean of tanh(shortfall / std); near 1 the policy is shorter, near -1 longer, on all
    prompts. None where lengths do not vary.
    `length_ratio`: mean length of the policy over that of the baseline; None where that is 0.
    `thin`: the share is too small: a length-controlled rate is an extrapolation.
    """

    share_of_like_length: float
    mean_tanh: float | None
    length_ratio: float | None
    thin: bool


class LengthControlled(Rate):
    """The win rate if both sides wrote equally much, its bootstrap error and interval.

    `penalised`: by Firth's regression, as the plain one has no optimum, here or on redrawn prompts.
    """

    overlap: Overlap | None = None
    uses_difficulty: bool = False
    uses_calibration: bool = False
    penalised: bool = False
    draws: int = 0


class LengthMatched(Rate):
    """The win rate over prompts whose completions differ in length by at most `tolerance`."""

    tolerance: float | None = None


class RatedSides(Result):
    """Mean ratings from 1 to 10 of policy and baseline, and the first less the second, by prompt.

    Only comparisons whose completions both have a rating count.
    """

    policy: Estimate
    baseline: Estimate
    difference: Estimate


class CriterionRate(Estimate):
    """The win rate in [0, 1] by one criterion alone; `n` prompts have a score.

    `weight` is the declared one. `ratings` are there where each completion was rated by itself.
    """

    weight: float
    ratings: RatedSides | None = None


class Headline(Result):
    """The declared measure of A over B against one half. Rates are in [0, 1].

    `worst_case` says what unscored comparisons could make of it; the verdict holds in both cases.
    `always_valid`: the interval holds whenever one stops judging, as prompts were judged until it
    was settled.

    `minimum_detectable_effect` is the smallest distance from 0.5 that these prompts would show with
    80% power, `prompts_to_settle` the number at which the distance seen would be that; `statement`
    says all of it in words. Numbers are None where the measure could not be taken, which leaves the
    verdict at "cannot tell".
    """

    measure: Measure = "win_rate"
    value: float | None
    standard_error: float | None = None
    ci_low: float | None
    ci_high: float | None
    n: int = 0
    minimum_detectable_effect: float | None = None
    prompts_to_settle: int | None = None
    worst_case: WorstCase | None = None
    always_valid: bool = False
    verdict: Conclusion
    statement: str = ""


class Finding(Result):
    """A warning: its name, a sentence for people, and the numbers it rests on."""

    name: str
    detail: str
    numbers: dict[str, Any] = Field(default_factory=dict)


class PolicyDifference(Result):
    """Mean score of one policy less that of another, over the prompts that both have.

    Attributes:
        difference: in [-1, 1], with error, interval and number of prompts.
        p_value: of the sign-flip test that neither is better, in (0, 1].
        p_holm: the same adjusted for all differences that are shown together.
        minimum_detectable_effect: smallest difference these prompts would find (80% power, 5%).
        prompts_to_settle: prompts at which the difference seen would be the smallest detectable
            one; None where it is 0.
        verdict: of the first policy.
    """

    difference: Estimate
    p_value: float
    minimum_detectable_effect: float | None = None
    prompts_to_settle: int | None = None
    verdict: Conclusion
    p_holm: float | None = None


class ModelPair(PolicyDifference):
    """Two models of an evaluation by name, and how they differ.

    `head_to_head` is the win rate of the first over the second, where they were compared with each
    other and not with the baseline alone.
    """

    first: str
    second: str
    head_to_head: Rate | None = None


class ModelRating(Result):
    """A model's rating on the Elo scale and its 95% interval, from `n` scores of prompts.

    The anchor has no interval. Without a comparison that connects a model with it, all is None.
    """

    name: str
    elo: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int = 0


class Ratings(Result):
    """Bradley and Terry's model over all pairs of models that were compared; best first.

    `anchor` stands at 1000. `penalised`: somebody won, or lost, all, so that half a win and half a
    loss stand for what nobody knows. Intervals come from `draws` redraws of the prompts, each one
    for all pairs.
    """

    models: list[ModelRating]
    anchor: str
    n_pairs: int
    n_prompts: int
    penalised: bool = False
    draws: int = 0


class LabelledRate(Result):
    """The win rate by somebody, in [0, 1], over `n` prompts that they have seen."""

    rate: float | None
    standard_error: float | None = None
    ci_low: float | None
    ci_high: float | None
    n: int


class PeopleAgreement(Result):
    """How far the people who label agree: of pairs that at least two have labelled."""

    n_pairs: int = Field(0, title="Pairs that several people labelled")
    agreement: float | None = Field(None, title="Two people agree")
    kappa: float | None = Field(None, title="Cohen's kappa, mean over two people")
    alpha: float | None = Field(None, title="Krippendorff's alpha")


class HumanWinRate(Result):
    """The win rate by the judge, by people alone, and by the judge anchored in people.

    `weight` in [0, 1] is how far the judge is heard; `labels_to_settle` how many labels of these
    prompts would show the distance from one half with 80% power, None where none would do.
    `verdict` is the anchored rate's. `n_unknown` labels are of comparisons that are not here.
    `truth` is what all labels together would have said, where that is known.
    """

    judge: LabelledRate
    people: LabelledRate
    anchored: LabelledRate
    weight: float
    n_prompts: int
    n_labels: int
    n_skipped: int = 0
    n_unknown: int = 0
    annotators: list[str] = Field(default_factory=list)
    agreement: PeopleAgreement = PeopleAgreement()
    labels_to_settle: int | None = None
    truth: LabelledRate | None = None
    verdict: Conclusion
    statement: str


class WinRate(Result):
    """Win rate of A (the policy) over B (the baseline). Rates are in [0, 1].

    `n`, `n_wins`, `n_losses`, `n_ties` count prompts that have a score; `n_unscored` counts
    verdicts that failed, `n_unscored_prompts` prompts left without any score. Both stay out of the
    rates. `n_identical` counts comparisons of one text with itself, ties by definition.
    `win_rate` is soft (p_a + p_tie / 2); `discrete_win_rate` takes a prompt as won, tied or lost by
    the mean of its hard verdicts, so two orders that contradict each other are a tie.
    `standard_error` is None below two prompts; `win_rate` is None where nothing was scored.
    `pointwise`: every completion was rated by itself, so that no order was shown: both orders of a
    comparison are one answer and count as one verdict.
    """

    n: int = Field(title="Prompts")
    win_rate: float | None
    standard_error: float | None = None
    ci_low: float = 0.0
    ci_high: float = 1.0
    discrete_win_rate: float | None = None
    n_wins: int = Field(0, title="Prompts won")
    n_losses: int = Field(0, title="Prompts lost")
    n_ties: int = Field(0, title="Prompts tied")
    n_unscored: int = Field(0, title="Verdicts unscored")
    n_unscored_prompts: int = Field(0, title="Prompts without a score")
    n_identical: int = Field(0, title="Both models wrote the same (ties)")
    n_verdicts: int = Field(0, title="Verdicts")
    unscored_reasons: dict[str, int] = Field(default_factory=dict)
    worst_case: WorstCase = Field(
        WorstCase(low=0.0, high=1.0), title="If all unscored were lost, or won"
    )
    position: Position = Position()
    minimum_detectable_effect: float | None = Field(
        None, title="Smallest detectable distance from even, points"
    )
    prompts_to_settle: int | None = None
    pointwise: bool = False
    verdict: Conclusion


class CategoryRate(WinRate):
    """The win rate of one category; `p_value` that it is one half, `p_bh` among all categories.

    `p_bh` is Benjamini and Hochberg's: of the categories that it calls better or worse one in
    twenty is expected to be wrong. None where a category has too few prompts to be rated.
    """

    p_value: float | None = None
    p_bh: float | None = None


class WinRateReport(WinRate):
    """All that one judge's verdicts say: rates side by side, the headline, warnings.

    `verdict`, `minimum_detectable_effect` and `prompts_to_settle` are of the headline. `criteria`
    are the win rates by each criterion, `mean_ratings` the whole ratings where the judge rates;
    `n_without_reference` counts prompts judged without a reference answer, None where none is ever
    shown.
    """

    statement: str = ""
    headline: Headline | None = None
    discrete: Rate | None = Field(None, title="Win rate, each prompt won, tied or lost")
    length_controlled: LengthControlled | None = Field(None, title="Win rate, length-controlled")
    length_matched: LengthMatched | None = Field(None, title="Win rate where lengths are alike")
    detectors: list[Finding] = Field(default_factory=list)
    criteria: dict[str, CriterionRate] = Field(default_factory=dict)
    mean_ratings: RatedSides | None = None
    n_without_reference: int | None = None
    human: HumanWinRate | None = None
    declared_headline: Measure | None = None


class StandardScore(Result):
    """A model's score on a standard set, or on its part `of`, as its authors take it.

    It is in [0, 1], or, on the scale `rating`, from 1 to 10.

    `style_controlled` is the score with the published style control, which holds the mean style of
    all answers fixed; `even_style` the same where both answers have one style. Both are None where
    the answers do not tell. `style_effects` are logits per standard deviation, of all models. `n`
    counts questions.
    """

    model: str
    of: str
    scale: ScoreScale = "rate"
    score: float
    ci_low: float | None = None
    ci_high: float | None = None
    n: int
    style_controlled: float | None = None
    style_low: float | None = None
    style_high: float | None = None
    even_style: float | None = None
    style_effects: dict[str, float] = Field(default_factory=dict)


class StandardScores(Result):
    """The scores of a standard set by its own rules, and how it was judged here and published.

    `answered` is how models that could be run were asked for their answers. `levels`
    are those of the intervals. `apart` says in words what differs from the publication.
    """

    name: str
    baseline: str
    scores: list[StandardScore]
    levels: tuple[float, float] = (0.05, 0.95)
    rounds: int = 0
    published: dict[str, Any] = Field(default_factory=dict)
    judged: dict[str, Any] = Field(default_factory=dict)
    answered: dict[str, Any] = Field(default_factory=dict)
    apart: list[str] = Field(default_factory=list)


class JudgeWinRate(WinRateReport):
    """The report on one judge of an evaluation, by category too, and how all models differ.

    `ratings` are there from three models on.
    """

    judge: str
    judge_fingerprint: str = ""
    categories: dict[str, CategoryRate] = Field(default_factory=dict)
    differences: list[ModelPair] = Field(default_factory=list)
    ratings: Ratings | None = None
    standard: StandardScores | None = None


class Declared(Result):
    """declared.json: what decides and who judges, written before a verdict is opened.

    `judges` are role -> name and fingerprint; `models` name -> fingerprint of the weights.
    `until_settled`: of the `prompts` only as many are judged as it takes to tell. `margins`: by
    benchmark, how much worse is no worse.
    """

    headline: Measure
    judges: dict[str, tuple[str, str]] = Field(default_factory=dict)
    models: dict[str, str] = Field(default_factory=dict)
    prompts: int = 0
    until_settled: bool = False
    margins: dict[str, float] = Field(default_factory=dict)


class WinRates(RootModel[dict[str, JudgeWinRate]]):
    """The win rates of an evaluation by role: `judge`, and `truth`, right by definition."""

    def get(self, role: str) -> JudgeWinRate | None:
        """The report of one role; None where nobody had it."""
        return self.root.get(role)
