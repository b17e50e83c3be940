"""What the page calls things."""

from collections.abc import Mapping
from typing import Any

from stages.report.gather.sources import Json
from stages.report.page.text import is_number, words

JUDGE_NAMES = {"judge": "the judge", "truth": "the true rule", "length": "the longer wins"}

OUTCOME_WORDS = {
    "split": "orders disagree",
    "unscored": "unscored",
    "baseline": "baseline wins",
    "tie": "tie",
    "policy": "policy wins",
}

STAGE_WORDS = {
    "ingest": "raw data to tables",
    "sft": "supervised fine-tuning",
    "judge": "the judge, trained and measured",
    "sample": "completions of the training prompts",
    "label": "verdicts to preference pairs",
    "train": "preference training",
    "evaluate": "benchmarks and win rate",
}


def model_words(baseline: str, start: str) -> str:
    """The baseline in words; `start` and `sft` are no paths but roles."""
    if baseline != "start":
        return baseline
    made = "made by this run's supervised fine-tuning" if start == "sft" else start
    return f"the model it began as, {made}"


def card_rows(card: Mapping[str, Any], prefix: str = "") -> list[Json]:
    """The judge card's estimates and numbers, nested ones too; those with words first."""
    rows: list[Json] = []
    for key, found in card.items():
        name = f"{prefix}{key}"
        estimate = found if isinstance(found, Mapping) and "value" in found else {"value": found}
        if is_number(estimate["value"]):
            label = CARD_WORDS.get(name, words(name.replace(".", ": ")).capitalize())
            rows.append({"label": label, "kind": _kind(name, estimate), **estimate})
        elif isinstance(found, Mapping) and key not in ("confusion", "by_reason"):
            rows += card_rows(found, f"{name}.")
    order = list(CARD_WORDS.values())
    shown = [row for row in rows if row["label"]]
    return sorted(shown, key=lambda r: order.index(r["label"]) if r["label"] in order else 99)


CARD_WORDS = {
    "accuracy": "Accuracy on held-out labels",
    "accuracy_non_ties": "Accuracy where the label is no tie",
    "accuracy_by_side": "Accuracy of the side ahead, no ties",
    "kappa": "Cohen's kappa",
    "human_ceiling.annotator": "One person's agreement with the others",
    "human_ceiling.judge": "The judge's agreement with the same others",
    "baselines.longest": "Accuracy of “the longer one wins”",
    "baselines.first": "Accuracy of “the first one wins”",
    "baselines.longest_non_ties": "Accuracy of “the longer one wins”, no ties",
    "lift_over_longest": "Lift over “the longer one wins”, points",
    "lift_over_first": "Lift over “the first one wins”, points",
    "position_consistency": "Same verdict in both orders",
    "flip_rate": "Opposite sides in the two orders",
    "p_first": "Verdicts for whichever is shown first",
    "position_gap": "Score shown first, less shown second, points",
    "unscored_rate.ab": "Unscored, shown as given",
    "unscored_rate.ba": "Unscored, shown exchanged",
    "unscored_rate.n": "",
    "n": "",
    "n_scored": "",
    "n_prompts": "",
    "human_ceiling.annotators_per_comparison": "People per comparison",
    "floors.min_agreement": "Floor of accuracy",
    "floors.max_position_gap": "Largest position gap allowed, points",
    "ece": "Expected calibration error",
    "brier": "Brier score, 0 to 2",
}


def _kind(name: str, estimate: Mapping[str, Any]) -> str:
    if name.startswith("lift") or name.endswith("_gap"):
        return "points"
    rate = "ci_low" in estimate or name.endswith(("_rate", "_share"))
    return "rate" if rate and "kappa" not in name and 0 <= estimate["value"] <= 1 else "number"
