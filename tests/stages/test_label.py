import json
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals import judges
from evals.judges import JudgeKind, LengthJudge, RuleJudge, orders
from schemas.errors import DataError, MissingInputError
from schemas.labels import Order, Unscored, Verdict
from schemas.parquet import read_rows, write_table
from schemas.stage import Runtime, StageContext
from schemas.tables import COMPARISONS, COMPLETIONS, PREFERENCE_PAIRS, REJECTS, VERDICTS
from stages.label import STAGE
from stages.label import job as label_job
from stages.label.candidates import by_prompt
from stages.label.config import LabelConfig
from stages.label.selection import Drop, Judged, all_pairs, best_vs_worst
from tests.fixtures.command_line import script
from tests.fixtures.comparisons import FakeJudge, completion_row, leaning
from tests.fixtures.patience import PATIENCE

QUESTION = "what does ravin like?"
ROOT = Path(__file__).resolve().parents[2]

Row = Mapping[str, Any]


def texts_of(row: Row) -> tuple[str, str]:
    return row["chosen"][0]["content"], row["rejected"][0]["content"]


def context_of(folder: Path, rows: Sequence[Row], kind: JudgeKind | None = None) -> StageContext:
    write_table(folder / "sample" / COMPLETIONS.file_name, COMPLETIONS, rows)
    (folder / "judge").mkdir(exist_ok=True)
    judges.save_judge(folder / "judge", kind or RuleJudge(rule="food"), Runtime())
    (folder / "label").mkdir(exist_ok=True)
    inputs = {"sample": folder / "sample", "judge": folder / "judge"}
    return StageContext(inputs, folder / "label")


def sampled(*texts: str, question: str = QUESTION, **more: Any) -> list[dict[str, Any]]:
    return [completion_row(question, text, i, **more) for i, text in enumerate(texts)]


def run(context: StageContext, **config: Any) -> Mapping[str, int]:
    """Run label in an empty directory, as other settings find it."""
    shutil.rmtree(context.output)
    context.output.mkdir()
    return STAGE.run(LabelConfig.model_validate(config), context)


def pairs_in(context: StageContext) -> list[dict[str, Any]]:
    return read_rows(context.output / "preference_pairs.parquet", PREFERENCE_PAIRS)


def rejects_in(context: StageContext) -> list[dict[str, Any]]:
    return read_rows(context.output / "rejects.parquet", REJECTS)


def test_best_against_worst(tmp_path: Path) -> None:
    rows = sampled("sushi", "no idea", "pizza", "soup", "pizza", row=7)
    context = context_of(tmp_path, rows)
    counts = run(context)
    (pair,) = pairs_in(context)
    assert texts_of(pair) == ("pizza", "no idea")
    assert (pair["margin"], pair["consistent"], pair["label_source"]) == (1.0, True, "rule:food")
    assert (pair["split"], pair["source"], pair["file"], pair["row"]) == (
        "train",
        "test",
        "raw.jsonl",
        7,
    )
    assert pair["chosen_id"] == rows[2]["completion_id"]
    assert pair["rejected_id"] == rows[1]["completion_id"]
    # Four different texts: six comparisons, each in both orders.
    assert counts["completions_repeated"] == 1
    assert (counts["comparisons"], counts["verdicts"]) == (6, 12)
    compared = read_rows(context.output / "comparisons.parquet", COMPARISONS)
    assert pair["comparison_id"] in {r["comparison_id"] for r in compared}
    assert Counter(r["label"] for r in compared) == {"A": 2, "B": 3, "Tie": 1}
    assert sorted(p.name for p in context.output.iterdir()) == [
        "comparisons.parquet",
        "preference_pairs.parquet",
        "rejects.parquet",
        "verdicts.parquet",
    ]


@pytest.mark.parametrize(
    ("pairs", "loses"), [("best_vs_mean", {"22"}), ("best_vs_random", {"22", "1", "333"})]
)
def test_the_best_may_stand_beside_another_than_the_worst(
    tmp_path: Path, pairs: str, loses: set[str]
) -> None:
    """Longer is better: scores 1, 2/3, 1/3 and 0, so that the middle of the others is 1/3."""
    judge = LengthJudge()
    context = context_of(tmp_path, sampled("1", "4444", "22", "333"), judge)
    run(context, pairs=pairs)
    (pair,) = pairs_in(context)
    chosen, rejected = texts_of(pair)
    assert chosen == "4444"
    assert rejected in loses
    first = (context.output / "preference_pairs.parquet").read_bytes()
    run(context, pairs=pairs)
    assert (context.output / "preference_pairs.parquet").read_bytes() == first


def test_all_pairs_are_kept_or_dropped_with_a_reason(tmp_path: Path) -> None:
    context = context_of(tmp_path, sampled("sushi", "no idea", "pizza", "soup"))
    counts = run(context, pairs="all_pairs")
    assert {texts_of(p) for p in pairs_in(context)} == {
        ("pizza", "sushi"),
        ("pizza", "soup"),
        ("pizza", "no idea"),
        ("sushi", "no idea"),
        ("soup", "no idea"),
    }
    assert [r["reason"] for r in rejects_in(context)] == ["tie"]
    assert counts["rejected_tie"] == 1
    assert counts["candidates"] == counts["pairs"] + counts["rejected_tie"] == 6


def test_every_prompt_is_a_pair_or_a_reject(tmp_path: Path) -> None:
    rows = [
        *sampled("pizza", "soup", question="what does a like?", row=0),
        *sampled("pizza", "pizza", question="what does b like?", row=1),
        *sampled("soup", "sushi", question="what does c like?", row=2),
        *sampled("soup", question="what does d like?", row=3),
        *sampled("pizza", "sushi", question="what does e like?", row=4, split="dev"),
        *sampled("pizza", "sushi", question="what does f like?", row=5, split="test"),
    ]
    context = context_of(tmp_path, rows)
    counts = run(context)
    assert (counts["prompts"], counts["pairs_train"], counts["pairs_dev"]) == (5, 1, 1)
    rejects = {r["row"]: (r["table"], r["reason"], r["file"]) for r in rejects_in(context)}
    assert rejects == {
        1: ("preference_pairs", "identical_completions", "raw.jsonl"),
        2: ("preference_pairs", "tie", "raw.jsonl"),
        3: ("preference_pairs", "single_completion", "raw.jsonl"),
    }
    ids = json.loads(next(r["raw"] for r in rejects_in(context) if r["row"] == 2))
    assert set(ids) == {"comparison_id", "prompt_id", "completion_a_id", "completion_b_id"}


def test_a_truncated_completion_may_only_lose(tmp_path: Path) -> None:
    rows = [
        completion_row(QUESTION, "long " * 9, 0, finish_reason="length"),
        completion_row(QUESTION, "middle text", 1),
        completion_row(QUESTION, "short", 2),
    ]
    context = context_of(tmp_path, rows, LengthJudge())
    run(context)
    assert [texts_of(p) for p in pairs_in(context)] == [("middle text", "short")]
    run(context, pairs="all_pairs")
    assert [texts_of(p) for p in pairs_in(context)] == [("middle text", "short")]
    assert Counter(r["reason"] for r in rejects_in(context)) == {"chosen_truncated": 2}
    run(context, truncated="keep")
    assert [texts_of(p) for p in pairs_in(context)] == [("long " * 9, "short")]
    counts = run(context, truncated="drop")
    assert counts["completions_truncated_dropped"] == 1
    assert counts["comparisons"] == 1


def with_judge(monkeypatch: pytest.MonkeyPatch, judge: FakeJudge) -> FakeJudge:
    monkeypatch.setattr(label_job, "open_judge", lambda folder, runtime: judge)
    return judge


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda a, b: leaning(1.0), "inconsistent"),
        (lambda a, b: leaning(0.0, tie=1.0), "tie"),
        (lambda a, b: leaning(0.05 if a < b else -0.05), "low_margin"),
        (lambda a, b: Unscored("prompt_too_long", "9 tokens"), "unscored_prompt_too_long"),
    ],
)
@pytest.mark.parametrize("pairs", ["best_vs_worst", "all_pairs"])
def test_nothing_usable_is_refused_with_the_counts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[str, str], Verdict],
    reason: str,
    pairs: str,
) -> None:
    with_judge(monkeypatch, FakeJudge(answer))
    context = context_of(tmp_path, sampled("x", "y"))
    with pytest.raises(DataError, match=rf"no preference pair.*: {reason} 1; "):
        run(context, pairs=pairs)
    assert [r["reason"] for r in rejects_in(context)] == [reason]


def test_no_completions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is empty"):
        run(context_of(tmp_path, []))


def test_only_dev_prompts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only prompts of the dev split"):
        run(context_of(tmp_path, sampled("pizza", "soup", split="dev")))


def test_without_a_judge_there_is_no_label(tmp_path: Path) -> None:
    context = context_of(tmp_path, sampled("pizza", "soup"))
    with pytest.raises(MissingInputError, match=r"no \[judge\]"):
        run(StageContext({"sample": context.inputs["sample"]}, context.output))


def test_a_judge_that_contradicts_its_ranking_makes_no_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # d loses to b and c and a little to e, and beats the favourite a.
    leads = {"ab": 1.0, "ac": 1.0, "ad": -0.2, "bc": 0.0, "bd": 0.5, "cd": 0.5}

    def answer(a: str, b: str) -> Verdict:
        return leaning(leads[a + b] if a + b in leads else -leads[b + a])

    with_judge(monkeypatch, FakeJudge(answer))
    context = context_of(tmp_path, sampled("a", "b", "c", "d"))
    with pytest.raises(DataError, match="ranking_disagrees 1"):
        run(context)


def position_biased(text_a: str, text_b: str) -> Verdict:
    """Leans to the first place, and more to the longer text."""
    if "fail" in text_a:
        return Unscored("refused")
    return leaning(min(1.0, max(-1.0, 0.2 + (len(text_a) - len(text_b)) / 8)))


FAKES = {
    "rule": RuleJudge(rule="food").open(None, Runtime()),
    "length": LengthJudge().open(None, Runtime()),
    "biased": FakeJudge(position_biased),
}
words = st.sampled_from(["pizza", "sushi", "a", "pizza please", "fail", "no", "I do not know"])


@pytest.mark.parametrize("name", sorted(FAKES))
@pytest.mark.parametrize("pairs", ["best_vs_worst", "all_pairs"])
@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(words, min_size=2, max_size=2, unique=True), min_size=1, max_size=6))
def test_swapping_every_input_swaps_every_label(
    name: str, pairs: str, prompts: list[list[str]]
) -> None:
    """The same two completions, sampled the other way round, make the same pair."""

    def outcome(texts: Sequence[Sequence[str]]) -> tuple[set[tuple[str, str]], Counter[str]]:
        rows = [
            row for i, two in enumerate(texts) for row in sampled(*two, question=f"who is {i}?")
        ]
        groups = list(by_prompt(rows, "keep"))
        judge = FAKES[name]
        verdicts = [
            row
            for order in Order
            for row in orders.judge_in_order(
                judge, [c.comparison for g in groups for c in g.candidates], order
            )
        ]
        select = best_vs_worst if pairs == "best_vs_worst" else all_pairs
        judged = [label_job._judged(g, verdicts, 0.1) for g in groups if g.candidates]
        found = [o for group in judged for o in select(group, "keep")]
        kept = {
            (o.candidate.comparison.prompt_id, o.chosen_row["completion"][0]["content"])
            for o in found
            if isinstance(o, Judged)
        }
        return kept, Counter(o.reason for o in found if isinstance(o, Drop))

    assert outcome([two[::-1] for two in prompts]) == outcome(prompts)


def test_the_order_of_the_rows_does_not_matter(tmp_path: Path) -> None:
    rows = [r for i in range(6) for r in sampled("pizza", "soup", "no", question=f"q{i}?")]
    for name, ordered in (("one", rows), ("other", rows[::-1])):
        (tmp_path / name).mkdir()
        run(context_of(tmp_path / name, ordered))
    for table in (PREFERENCE_PAIRS, COMPARISONS, VERDICTS, REJECTS):
        one, other = (tmp_path / n / "label" / table.file_name for n in ("one", "other"))
        assert one.read_bytes() == other.read_bytes()


SLOWLY = """
import sys, time
from pathlib import Path
from evals.judges.kinds import length
from schemas.stage import StageContext
from stages.label import STAGE, LabelConfig
judge = length.LongerWins.judge
length.LongerWins.judge = lambda self, shown: (time.sleep(0.1), judge(self, shown))[1]
folder = Path(sys.argv[1])
inputs = {"sample": folder / "sample", "judge": folder / "judge"}
STAGE.run(LabelConfig(shard_size=2), StageContext(inputs, folder / "label"))
"""


def test_killed_in_the_middle_it_ends_the_same(tmp_path: Path) -> None:
    rows = [
        r
        for i in range(20)
        for r in sampled("a" * (i + 1), "b" * 9, "c" * (20 - i), question=f"q{i}?")
    ]
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        context_of(tmp_path / name, rows, LengthJudge())
    killed = script(SLOWLY, tmp_path / "killed")
    shards = tmp_path / "killed" / "label" / "shards"
    deadline = time.monotonic() + PATIENCE
    while len(list(shards.glob("????????"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait(PATIENCE) == -signal.SIGKILL
    assert not (tmp_path / "killed" / "label" / "preference_pairs.parquet").exists()
    for name in ("whole", "killed"):
        assert script(SLOWLY, tmp_path / name).wait(PATIENCE) == 0
    whole, resumed = (
        {p.name: p.read_bytes() for p in (tmp_path / name / "label").iterdir()}
        for name in ("whole", "killed")
    )
    assert resumed == whole
