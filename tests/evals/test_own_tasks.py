"""Our own inspect-ai tasks: judges on labelled pairs, win rates, implicit rewards, instructions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task, task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import Sample
from inspect_ai.model import Model, get_model
from inspect_ai.solver import generate

from evals.benchmarks.instruction_following import follows, instruction_prompts
from evals.benchmarks.judging_tasks import pairwise_win_rate
from evals.benchmarks.provider import local_model
from evals.benchmarks.run import BenchmarkRun, run_benchmark
from evals.benchmarks.tasks import TASKS
from evals.models.samplers import Sample as Sampled
from evals.models.samplers import SampledCompletion, SampleRequest, SamplingSettings, Unsampled
from schemas.errors import ConfigError
from schemas.parquet import read_rows, write_table
from schemas.tables import ANNOTATIONS, COMPARISONS, COMPLETIONS
from tests.fixtures.comparisons import comparison_row, completion_row, labelled
from tests.fixtures.samplers import Answer, ScriptedSampler

SETTINGS = SamplingSettings(max_tokens=12)


def model_that(answer: Answer) -> Model:
    return local_model("m", ScriptedSampler(answer), SETTINGS, lambda prompt: 1)


def value(run: BenchmarkRun, scorer: str, metric: str) -> float | None:
    assert run.error is None
    return next(m.value for m in run.measured if (m.scorer, m.metric) == (scorer, metric))


@pytest.fixture
def comparisons(tmp_path: Path) -> Path:
    """Twelve comparisons of six prompts: the longer text is right in nine; two are ties."""
    units = [
        labelled(f"q{i % 6}", f"longer text {i}", f"short{i}", "B" if i in (1, 4, 7) else "A")
        for i in range(12)
    ]
    units += [labelled("q8", "same", "size", "Tie"), labelled("q9", "longer", "short", "Tie")]
    rows = [comparison_row(unit, "test", i) for i, unit in enumerate(units)]
    for i, row in enumerate(rows):
        row["category"] = "even" if i % 2 == 0 else "odd"
    write_table(tmp_path / "comparisons.parquet", COMPARISONS, rows)
    return tmp_path / "comparisons.parquet"


def run(name: str, model: Model, folder: Path, **args: Any) -> BenchmarkRun:
    reference = args.pop("reference", None)
    log = folder / "logs" / "one.eval"
    return run_benchmark(name, model, args=args, reference=reference, log=log)


def test_a_judge_is_measured_on_labelled_pairs(comparisons: Path, tmp_path: Path) -> None:
    found = run(
        "judge_bench", get_model("none"), tmp_path, comparisons=str(comparisons), judge="length"
    )
    # Right on nine of the twelve and on the tie of equal lengths.
    assert value(found, "agreement", "accuracy") == pytest.approx(10 / 14)
    assert value(found, "position_consistency", "accuracy") == 1
    by_group = {m.metric: m.n for m in found.measured if m.scorer == "agreement"}
    assert (by_group["accuracy[even]"], by_group["accuracy[odd]"]) == (7, 7)
    measured = next(m for m in found.measured if m.metric == "accuracy")
    assert len(set(measured.clusters.values())) == 8  # comparisons of one prompt belong together


def test_judge_bench_on_the_real_pairs(real_data: Path, tmp_path: Path) -> None:
    pairs = str(real_data / "judging" / "hhh_human_pairs.parquet")
    found = run(
        "judge_bench",
        get_model("none"),
        tmp_path,
        comparisons=pairs,
        judge="length",
        max_comparisons=None,
    )
    assert value(found, "agreement", "accuracy") == pytest.approx(139 / 221)


def numbers(of: Callable[[str], float]) -> Answer:
    """A model whose log-probability of a completion is a function of its text."""

    def answer(request: SampleRequest) -> Sampled:
        logp = of(request.prompt[-1]["content"])
        return SampledCompletion(repr(logp), [1], logp, "stop")

    return answer


def test_the_implicit_reward_is_the_gain_over_the_reference(
    comparisons: Path, tmp_path: Path
) -> None:
    policy = model_that(numbers(lambda text: -1.0 if text.startswith("longer") else -2.0))
    reference = model_that(numbers(lambda text: -float(len(text))))
    found = run(
        "preference_accuracy",
        policy,
        tmp_path,
        comparisons=str(comparisons),
        reference=reference,
    )
    # "longer text" gained at least 12, "short" at most 5: right where people chose the longer one.
    assert value(found, "implicit_reward", "accuracy") == pytest.approx(9 / 12)
    assert value(found, "log_probability", "accuracy") == pytest.approx(9 / 12)
    margin = value(found, "implicit_margin", "mean")
    gaps = [(13 if i < 10 else 14) - 1 - ((6 if i < 10 else 7) - 2) for i in range(12)]
    expected = sum(-gap if i in (1, 4, 7) else gap for i, gap in enumerate(gaps)) / 12
    assert margin == pytest.approx(expected)


def test_accuracy_of_the_policy_by_category_source_and_annotator(
    comparisons: Path, tmp_path: Path
) -> None:
    """An annotator's share is of the comparisons to which they gave the label that stands."""
    rows = read_rows(comparisons, COMPARISONS)
    blank = dict.fromkeys(field.name for field in ANNOTATIONS.value_type)
    of_text = {row["completion_a"][0]["content"]: row for row in rows}
    for i in range(12):
        row = of_text[f"longer text {i}"]
        row["source"] = "hh" if i < 6 else "arena"
        row["annotations"] = [
            blank | {"annotator": who, "label": label}
            for who, label in (("kim", row["label"]), ("lee", "A"))
        ]
    write_table(tmp_path / "more.parquet", COMPARISONS, rows)
    policy = model_that(numbers(lambda text: -1.0 if text.startswith("longer") else -2.0))
    reference = model_that(numbers(lambda text: -float(len(text))))
    found = run(
        *("preference_accuracy", policy, tmp_path),
        comparisons=str(tmp_path / "more.parquet"),
        reference=reference,
    )
    measured = [m for m in found.measured if m.scorer == "implicit_reward"]
    shares = {m.metric: round(m.n * (m.value or 0)) for m in measured}
    numbers_of = {m.metric: m.n for m in measured}
    expected = {
        "accuracy[even]": (5, 6),
        "accuracy[source hh]": (4, 6),
        "accuracy[source arena]": (5, 6),
        "accuracy[annotator kim]": (9, 12),
        "accuracy[annotator lee]": (9, 9),
    }
    for name, (right, of) in expected.items():
        assert (shares[name], numbers_of[name]) == (right, of)


def test_the_reference_itself_is_even(comparisons: Path, tmp_path: Path) -> None:
    same = model_that(numbers(lambda text: -float(len(text))))
    found = run("preference_accuracy", same, tmp_path, comparisons=str(comparisons), reference=same)
    assert value(found, "implicit_reward", "accuracy") == 0.5
    assert value(found, "log_probability", "accuracy") == pytest.approx(3 / 12)


def test_what_cannot_be_read_is_unscored(comparisons: Path, tmp_path: Path) -> None:
    def answer(request: SampleRequest) -> Sampled:
        if request.prompt[-1]["content"] == "short3":
            return Unsampled("too_long", "9,000 tokens")
        return SampledCompletion("-1.0", [1], -1.0, "stop")

    model = model_that(answer)
    found = run(
        "preference_accuracy", model, tmp_path, comparisons=str(comparisons), reference=model
    )
    reward = next(m for m in found.measured if m.scorer == "implicit_reward")
    assert (reward.n, reward.n_unscored) == (11, 1)


@pytest.fixture
def completions(tmp_path: Path) -> Path:
    rows = [completion_row(f"q{i}", "middling", 0, row=i) for i in range(8)]
    rows += [completion_row("q0", "never compared with", 1)]
    write_table(tmp_path / "completions.parquet", COMPLETIONS, rows)
    return tmp_path / "completions.parquet"


def test_the_pairwise_win_rate_asks_in_both_orders(completions: Path, tmp_path: Path) -> None:
    said = {"q0": "middling", "q1": "short", "q2": "even"}
    model = model_that(lambda r: said.get(r.prompt[-1]["content"], "longer than that"))
    found = run("pairwise_win_rate", model, tmp_path, completions=str(completions), judge="length")
    # Identical texts are half a win; two are shorter, five longer.
    assert value(found, "pairwise_win_rate", "mean") == pytest.approx(5.5 / 8)


@task
def somebody_elses() -> Task:
    samples = [Sample(id=i, input=f"q{i}", target="abc", metadata={"gold": "abcd"}) for i in (1, 2)]
    return Task(samples, solver=generate(), scorer=pairwise_win_rate("length", rival="gold"))


def test_the_scorer_serves_other_peoples_tasks(tmp_path: Path) -> None:
    model = model_that(lambda r: "abcde" if r.prompt[-1]["content"] == "q1" else "abcd")
    [log] = inspect_eval(
        somebody_elses(), model=model, display="none", log_dir=str(tmp_path / "logs")
    )
    assert log.results is not None
    assert log.results.scores[0].metrics["mean"].value == 0.75


def test_an_argument_that_is_none_is_named(tmp_path: Path) -> None:
    error = run("judge_bench", get_model("none"), tmp_path, nonsense=1).error
    assert "nonsense" in (error or "")
    assert "task_args" in (error or "")


def test_every_task_says_what_it_takes() -> None:
    assert set(TASKS) == {
        "food_preference",
        "instruction_following",
        "preference_accuracy",
        "judge_bench",
        "pairwise_win_rate",
    }


def test_the_prompts_are_whole() -> None:
    rows = instruction_prompts()
    assert len({row["prompt"] for row in rows}) == len(rows) >= 40
    assert all(len(row["instruction_id_list"]) == len(row["kwargs"]) for row in rows)


GOOD = {
    "punctuation:no_comma": ("no comma here", "one, two"),
    "detectable_format:title": ("<<bread>>\nflour and water", "bread"),
    "keywords:existence": ("It is simple today.", "It is simple."),
    "detectable_format:json_format": ('{"answer": 1}', "answer: 1"),
    "startend:quotation": ('"all of it"', '"half of it'),
    "detectable_content:postscript": ("Bread.\nP.S. More bread.", "Bread."),
    "length_constraints:number_paragraphs": ("one\n***\ntwo", "one"),
}


@pytest.mark.parametrize("instruction", GOOD)
def test_instructions_are_checked(instruction: str) -> None:
    row = next(r for r in instruction_prompts() if instruction in r["instruction_id_list"])
    place = row["instruction_id_list"].index(instruction)
    alone = row | {"instruction_id_list": [instruction], "kwargs": [row["kwargs"][place]]}
    right, wrong = GOOD[instruction]
    assert set(follows(alone, right).values()) == {1.0}
    assert follows(alone, wrong)["prompt_strict"] == 0.0
    assert follows(alone, "")["instruction_loose"] == 0.0


def test_without_the_checkers_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("evals.benchmarks.instruction_following.import_module", missing)
    from evals.benchmarks import instruction_following

    instruction_following._checkers.cache_clear()
    error = run("instruction_following", model_that(lambda r: "x"), tmp_path).error or ""
    assert "pip install if-verifiable" in error
    with pytest.raises(ConfigError):
        instruction_following.require_checkers()
