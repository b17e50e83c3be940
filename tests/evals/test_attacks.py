"""The attack table: what texts that speak to the judge are worth, neutralised and raw."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

from evals.judge_card.attacks import ATTACKS, attack_cost, attack_table, verdicts_of_table
from evals.judges.kinds.length import LongerWins
from evals.judges.kinds.rule import certain
from evals.judges.layout import neutralise
from evals.judges.verdicts.folding import fold
from evals.judges.verdicts.grammar import FORMS
from schemas.labels import Comparison, LabelProbabilities, Preference, Unscored, Verdict
from schemas.stage import SilentProgress
from tests.fixtures.comparisons import comparison

PAIRS = [comparison(f"question {n}?", "One answer. And more.", f"other {n}") for n in range(60)]


class Gullible:
    """Believes any verdict that it is shown; else it sees no difference."""

    name = "gullible"
    fingerprint = "0" * 32

    def judge(self, comparisons: Sequence[Comparison]) -> list[Verdict]:
        return [self._one(c) for c in comparisons]

    def _one(self, shown: Comparison) -> Verdict:
        text = fold(
            "\n".join(m["content"] for m in neutralise([*shown.completion_a, *shown.completion_b]))
        )
        for form in FORMS:
            for statement in form.find(text):
                if statement.label is not None:
                    return certain(statement.label.preference)
        return certain(Preference.TIE)


def test_a_judge_that_believes_is_moved_raw_and_not_where_imitations_are_broken() -> None:
    table = {(row.group, row.name): row for row in attack_table(Gullible(), PAIRS)}
    for name in ATTACKS["verdict"]:
        row = table["verdict", name]
        assert row.raw.both.value == pytest.approx(0.5), name
        assert row.raw.ab.n == 50
        assert row.raw.both.n == 100
        if name != "boxed":  # it is read only where nothing follows it
            assert row.neutralised.both.value == pytest.approx(0), name
    control = table["control", "a plain sentence"]
    assert control.raw.both.value == control.neutralised.both.value == 0
    assert len(ATTACKS["verdict"]) >= 12


def test_an_interval_of_a_shift_is_as_narrow_as_the_shifts_are_alike() -> None:
    class Doubting(Gullible):
        def _one(self, shown: Comparison) -> Verdict:
            moved = 0.02 * len(set(shown.prompt[-1]["content"]) & set("0123"))
            lines = len(shown.completion_a[-1]["content"].splitlines())
            p_a = 0.5 + (moved if lines > 1 else 0)
            return LabelProbabilities(p_a, 1 - p_a, 0.0)

    row = next(r for r in attack_table(Doubting(), PAIRS, pairs=10) if r.name == "line")
    assert row.raw.ab.ci_low is not None
    assert row.raw.ab.ci_high is not None
    assert row.raw.ab.ci_high - row.raw.ab.ci_low < 0.05


def test_length_moves_the_judge_of_length_in_both_orders() -> None:
    short = [comparison(f"question {n}?", "ab. cd", "abcdefgh") for n in range(20)]
    table = {row.name: row for row in attack_table(LongerWins(), short, pairs=20)}
    assert table["three times the text"].neutralised.ab.value == 1
    assert table["three times the text"].neutralised.ba.value == 1
    assert table["three times the text"].neutralised.ab.n == 20


def test_unscored_verdicts_are_counted_and_do_not_shift() -> None:
    class Silent(Gullible):
        def _one(self, shown: Comparison) -> Verdict:
            hostile = re.search("Verdict", shown.completion_a[-1]["content"])
            return Unscored("refused", "no") if hostile else certain(Preference.A)

    row = next(r for r in attack_table(Silent(), PAIRS, pairs=10) if r.name == "line")
    assert (row.raw.unscored, row.raw.ab.value, row.raw.ba.value) == (10, None, 0)
    assert attack_cost(Silent(), PAIRS, 50) == 0


def test_the_bar_counts_every_verdict_that_is_asked_for() -> None:
    class Counting(LongerWins):
        asked = 0

        def judge(self, comparisons: Sequence[Comparison]) -> list[Verdict]:
            self.asked += len(comparisons)
            return super().judge(comparisons)

    class Bar(SilentProgress):
        total: int | None = None
        done = 0

        @contextmanager
        def task(self, title: str, total: int | None, unit: str) -> Iterator["Bar"]:
            self.total = total
            yield self

        def advance(self, units: int = 1) -> None:
            self.done += units

        def metrics(self, values: Mapping[str, float | int | str]) -> None:
            raise AssertionError("an attack has no running values")

    judge, bar = Counting(), Bar()
    attack_table(judge, PAIRS, pairs=3, progress=bar)
    assert bar.total == bar.done == judge.asked == verdicts_of_table(3, judge)
