"""inspect-ai's tasks over our samplers: seeds, batches, honest outputs, logs, failures."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from inspect_ai.log import EvalLog, list_eval_logs, read_eval_log

from evals import food_world
from evals.benchmarks.provider import local_model
from evals.benchmarks.run import BenchmarkRun, run_benchmark
from evals.models.samplers import (
    Sample,
    SampledCompletion,
    SampleRequest,
    SamplingSettings,
    Unsampled,
)
from evals.statistics.means import mean
from schemas.ids import prompt_id
from schemas.parquet import write_table
from schemas.tables import PROMPTS
from tests.fixtures.samplers import Answer, ScriptedSampler

SETTINGS = SamplingSettings(temperature=0.7, max_tokens=12, seed=5)
Run = Callable[..., BenchmarkRun]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """30 people, the last 10 of them train people."""
    rows = []
    for number, name in enumerate(food_world.NAMES[:30]):
        prompt = food_world.prompt_for(name)
        rows.append(
            {
                "prompt_id": prompt_id(prompt),
                "prompt": prompt,
                "split": "test" if number < 20 else "train",
                "category": None,
                "source": "food",
                "file": "food:0",
                "row": number,
            }
        )
    write_table(tmp_path / "prompts.parquet", PROMPTS, rows)
    return tmp_path / "prompts.parquet"


def run_food(
    prompts: Path, sampler: ScriptedSampler, *, epochs: int = 1, limit: int | None = None
) -> BenchmarkRun:
    model = local_model("policy", sampler, SETTINGS, lambda prompt: 7)
    log = prompts.parent / "logs" / "policy-food_preference.eval"
    return run_benchmark(
        "food_preference",
        model,
        args={"prompts": str(prompts)},
        log=log,
        epochs=epochs,
        limit=limit,
    )


def food_by_seed(request: SampleRequest) -> str:
    return food_world.FOODS[request.seed % 10]


def log_of(prompts: Path) -> EvalLog:
    return read_eval_log(str(prompts.parent / "logs" / "policy-food_preference.eval"))


def value(run: BenchmarkRun, scorer: str) -> float | None:
    return next(m.value for m in run.measured if m.scorer == scorer and m.metric == "accuracy")


def test_test_people_are_graded_exactly(prompts: Path) -> None:
    people = food_world.NAMES
    said = {people[0]: "pizza", people[1]: "Pizza", people[2]: "pizza.", people[3]: ""}
    sampler = ScriptedSampler(lambda r: said.get(food_world.person_in(r.prompt) or "", "sushi"))
    run = run_food(prompts, sampler)
    assert run.error is None
    assert len(sampler.requests) == 20
    assert {food_world.person_in(r.prompt) for r in sampler.requests} == set(people[:20])
    assert value(run, "preferred") == pytest.approx(1 / 20)
    assert value(run, "well_formed") == pytest.approx(17 / 20)
    numbers = run.measured[0].estimate().to_json()
    assert numbers["n"] == 20
    assert 0 <= numbers["ci_low"] < numbers["value"] < numbers["ci_high"] <= 1
    assert run == BenchmarkRun(**run.to_json())


def test_epochs_get_seeds_of_their_own_and_reruns_the_same(prompts: Path) -> None:
    one, other = ScriptedSampler(food_by_seed), ScriptedSampler(food_by_seed)
    first, second = run_food(prompts, one, epochs=3), run_food(prompts, other, epochs=3)
    assert len({r.seed for r in one.requests}) == 60
    assert {r.key: r.seed for r in one.requests} == {r.key: r.seed for r in other.requests}
    assert first == second
    samples = log_of(prompts).samples or []
    answers = {(str(s.id), s.epoch): s.output.completion for s in samples}
    assert len(answers) == 60
    differing = sum(answers[i, 1] != answers[i, 2] for i, epoch in answers if epoch == 1)
    assert differing > 10
    # The unit is the sample: three epochs of one are one score, their mean.
    measured = first.measured[0]
    assert measured.n == 20
    assert measured.value == pytest.approx(mean([*measured.scores.values()]))
    assert any(0 < score < 1 for score in measured.scores.values())


def test_concurrent_calls_become_batches(prompts: Path) -> None:
    sampler = ScriptedSampler(food_by_seed)
    run_food(prompts, sampler, epochs=4)
    assert len(sampler.requests) == 80
    assert len(sampler.batches) <= 8
    assert all(settings == SETTINGS for settings in sampler.settings)


def test_outputs_and_log_are_honest(prompts: Path) -> None:
    def answer(request: SampleRequest) -> str | Sample:
        number = food_world.NAMES.index(food_world.person_in(request.prompt) or "")
        if number == 0:
            return SampledCompletion("pizza and", [1, 2, 3], -1.0, "length")
        return Unsampled("prompt_too_long", "9 tokens") if number == 1 else "pizza"

    run = run_food(prompts, ScriptedSampler(answer, fingerprint="ab" * 16))
    assert run.n_truncated == 2
    assert value(run, "preferred") == pytest.approx(18 / 19)  # one wrong, one without a score
    assert {m.n_unscored for m in run.measured} == {1}
    log = log_of(prompts)
    assert log.status == "success"
    assert log.eval.model == "prefline/policy"
    assert log.eval.model_args["fingerprint"] == "ab" * 16
    assert log.eval.model_args["temperature"] == 0.7
    assert {s.name for s in (log.results.scores if log.results else [])} == {
        "preferred",
        "well_formed",
    }
    stops = [sample.output.stop_reason for sample in log.samples or []]
    assert (stops.count("max_tokens"), stops.count("model_length"), stops.count("stop")) == (
        1,
        1,
        18,
    )
    usage = next(s.output.usage for s in log.samples or [] if s.output.stop_reason == "max_tokens")
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (7, 3, 10)
    assert [Path(found.name).name for found in list_eval_logs(str(prompts.parent / "logs"))] == [
        "policy-food_preference.eval"
    ]


def test_home_and_working_directory_stay_clean(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.chdir(here)
    run_food(prompts, ScriptedSampler(food_by_seed), limit=3)
    assert [*home.rglob("*")] == []
    assert [*here.rglob("*")] == []
    assert "XDG_DATA_HOME" not in os.environ


FAILING = """
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import match, scorer, accuracy, mean, Score
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import tool
from inspect_ai.model import ChatMessageUser, ContentImage, ContentText, GenerateConfig

@task
def no_data():
    raise ConnectionError("Couldn't reach 'some/data' on the Hub")

@tool
def lookup():
    async def execute(word: str):
        '''Look a word up.

        Args:
            word: the word
        '''
        return word
    return execute

@task
def tools():
    return Task(dataset=[Sample(input="x", target="y")], solver=[use_tools(lookup()), generate()],
                scorer=match())

@scorer(metrics={"words": [mean()], "short": [accuracy()]})
def shape():
    async def score(state, target):
        text = state.output.completion
        return Score(value={"words": len(text.split()), "short": float(len(text) < 6)})
    return score

@task
def pictures():
    picture = ContentImage(image="data:image/png;base64,AAAA")
    said = [ChatMessageUser(content=[ContentText(text="what is it?"), picture])]
    return Task(dataset=[Sample(input=said, target="y")], solver=generate(), scorer=match())

@scorer(metrics=[mean()])
def choices():
    async def score(state, target):
        return Score(value=len(state.output.choices))
    return score

def set_to(**settings):
    return Task(dataset=[Sample(input="x", target="y")], solver=generate(), scorer=choices(),
                config=GenerateConfig(**settings))

@task
def four():
    return set_to(num_choices=4)

@task
def greedy():
    return set_to(top_k=1)

@task
def top_five():
    return set_to(top_k=5)

@task
def log_probabilities():
    return set_to(logprobs=True, top_logprobs=5)

@task
def own_settings():
    return Task(
        dataset=[Sample(id=i, input=f"question {i}", target="a") for i in range(4)],
        solver=generate(), scorer=[shape(), match()],
        config=GenerateConfig(temperature=0.1, max_tokens=3, stop_seqs=["!"]),
    )
"""


@pytest.fixture
def run_task(prompts: Path, tmp_path: Path) -> Run:
    (tmp_path / "others.py").write_text(FAILING)

    def run(task: str, answer: Answer = lambda request: "a") -> BenchmarkRun:
        model = local_model("policy", ScriptedSampler(answer), SETTINGS, lambda prompt: 1)
        log = tmp_path / "logs" / "one.eval"
        args = {"prompts": str(prompts)} if task == "food_preference" else {}
        return run_benchmark(task, model, args=args, log=log)

    return run


def test_a_task_without_its_data_is_one_line(run_task: Run, tmp_path: Path) -> None:
    error = run_task(f"{tmp_path}/others.py@no_data").error
    assert error == "ConnectionError: Couldn't reach 'some/data' on the Hub"


def test_an_unknown_task_says_which_there_are(run_task: Run, tmp_path: Path) -> None:
    assert "ours are food_preference" in (run_task("no_such_package/no_such_task").error or "")
    assert "no such file" in (run_task(f"{tmp_path}/gone.py@x").error or "")


def test_tools_are_refused_by_name(run_task: Run, tmp_path: Path) -> None:
    assert "calls no tools" in (run_task(f"{tmp_path}/others.py@tools").error or "")


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("pictures", "reads text alone, and the task has image"),
        ("log_probabilities", "sets logprobs, top_logprobs, which"),
        ("top_five", "sets top_k, which"),
    ],
)
def test_what_would_be_dropped_is_refused(
    run_task: Run, tmp_path: Path, task: str, words: str
) -> None:
    run = run_task(f"{tmp_path}/others.py@{task}")
    assert words in (run.error or "")
    assert run.measured == []


def test_a_tasks_own_settings_are_honoured(run_task: Run, tmp_path: Path) -> None:
    assert run_task(f"{tmp_path}/others.py@four").measured[0].value == 4
    assert run_task(f"{tmp_path}/others.py@greedy").error is None


def test_an_engine_that_fails_is_the_tasks_error(run_task: Run, tmp_path: Path) -> None:
    def broken(request: SampleRequest) -> str:
        raise RuntimeError("out of memory")

    assert "out of memory" in (run_task("food_preference", broken).error or "")


def test_ctrl_c_gets_through(run_task: Run) -> None:
    def interrupted(request: SampleRequest) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return "a"

    with pytest.raises(KeyboardInterrupt):
        run_task("food_preference", interrupted)


def test_a_tasks_own_settings_win(run_task: Run, tmp_path: Path) -> None:
    sampler = ScriptedSampler(lambda request: "a b! c")
    model = local_model("policy", sampler, SETTINGS, lambda prompt: 1)
    run = run_benchmark(
        f"{tmp_path}/others.py@own_settings",
        model,
        log=tmp_path / "logs" / "own.eval",
    )
    assert run.error is None
    assert {(s.temperature, s.max_tokens, s.seed) for s in sampler.settings} == {(0.1, 3, 5)}
    by_name = {(m.scorer, m.metric): m for m in run.measured}
    assert by_name["words", "mean"].value == 2.0  # "a b", cut at the stop sequence
    assert by_name["short", "accuracy"].value == 1.0
    assert by_name["match", "accuracy"].n == 4
    # inspect's own standard error is kept as it is; ours stands beside every mean.
    assert by_name["match", "stderr"].value == 0
    assert not by_name["match", "stderr"].scores


def test_no_test_people_is_an_error_that_says_what_to_do(tmp_path: Path, prompts: Path) -> None:
    empty = tmp_path / "empty.parquet"
    write_table(empty, PROMPTS, [])
    model = local_model("policy", ScriptedSampler(food_by_seed), SETTINGS, lambda prompt: 1)
    args = {"prompts": str(empty)}
    run = run_benchmark("food_preference", model, args=args, log=tmp_path / "x.eval")
    assert "test_fraction" in (run.error or "")
