"""What would stop a run in an hour is said before minute 0."""

import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from typer.testing import CliRunner

from evals.benchmarks.tasks import TASKS
from evals.judges.openai import reachable
from pipeline.cli import app
from pipeline.commands.runs.run import run_recipe
from pipeline.preflight import (
    OWN_TASKS,
    chat_models,
    hub_problems,
    machine,
    problems,
    server_problems,
    template_problems,
    warnings,
)
from pipeline.recipe import load_recipe
from schemas.errors import ConfigError, DataError
from schemas.files import write_json
from tests.fixtures.tiny_models import byte_level_tokenizer, tiny_llama


def recipe(tmp_path: Path, text: str) -> Path:
    """A recipe of the food world; what stands before its first section is for [ingest]."""
    options, bracket, sections = text.partition("[")
    data = '[[ingest.datasets]]\nkind = "food"\n'
    path = tmp_path / "r.toml"
    path.write_text(f'name = "r"\n[ingest]\n{options}{data}{bracket}{sections}')
    return path


def test_our_tasks_are_all_known() -> None:
    assert set(OWN_TASKS) == set(TASKS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[ingest.datasets]]\nkind = "jsonl"\npath = "gone.jsonl"\n', "gone.jsonl: no such file"),
        ('[evaluate]\npolicy = {path = "a/b"}\ntasks = ["no_such"]\n', "no_such: no such task"),
        ('[evaluate]\npolicy = {path = "a/b"}\ntasks = ["nopackage/x"]\n', "not installed"),
        (
            '[evaluate]\npolicy = {path = "a/b"}\n[evaluate.truth]\nkind = "llm"\n'
            'server = {base_url = "http://127.0.0.1:9/v1", model = "m", api_key_env = "NO_KEY"}\n',
            "evaluate.truth.server.api_key_env: NO_KEY is not set",
        ),
        ('[runtime]\ndevice = "cuda"\n', "runtime.device"),
        (
            '[evaluate]\npolicy = {path = "a/b"}\ncheckpoint_step = 3\n',
            "evaluate.checkpoint_step: is a step of [train]",
        ),
        (
            '[train]\nmodel = {path = "a/b"}\ntraining = {max_steps = 10}\n'
            "[evaluate]\ncheckpoint_step = 12\n",
            "evaluate.checkpoint_step: 12 is beyond train.training.max_steps, 10",
        ),
        (
            '[train]\nmodel = {path = "a/b"}\ntraining = {max_steps = 10, eval_every = 4}\n'
            "[evaluate]\ncheckpoint_step = 6\n",
            "every 4 steps; 6 is none of them",
        ),
        (
            'test_fraction = 0\n[evaluate]\npolicy = {path = "a/b"}\n',
            "ingest.test_fraction: 0 holds out no test prompts, which [evaluate] needs",
        ),
        (
            '[judge]\nkind = "length"\n[sample]\nmodel = {path = "a/b"}\n'
            '[sample.sampler]\nkind = "server"\nbase_url = "http://127.0.0.1:9/v1"\n'
            "[label]\n[train]\nmodel = {path = 'a/b'}\n[rounds]\nn = 2\n",
            "rounds.n: a later round samples what it has trained",
        ),
        (
            '[judge]\nkind = "length"\n[sample]\nmodel = {path = "a/b"}\nn = 1\n[label]\n',
            "sample.n: one completion",
        ),
        (
            '[judge]\nkind = "length"\n[sample]\nmodel = {path = "a/b"}\n'
            "temperature = 0\n[label]\n",
            "sample.temperature: 0",
        ),
    ],
)
def test_each_is_found(
    tmp_path: Path, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "has_gpu", lambda: False)
    found = problems(load_recipe(recipe(tmp_path, text)))
    assert len(found) == 1
    assert said in found[0]


def test_a_misspelt_target_module_is_named(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "tiny")
    text = (
        f'[train.model]\npath = "{model}"\n'
        '[train.training.lora]\ntarget_modules = ["q_proj", "v_porj"]\n'
    )
    [found] = problems(load_recipe(recipe(tmp_path, text)))
    assert "has no v_porj; it has" in found
    assert "v_proj" in found


def judged_by(tmp_path: Path, model: Path, more: str = "") -> Path:
    return recipe(tmp_path, f'[evaluate]\n[evaluate.policy]\npath = "{model}"\n{more}\n[report]\n')


def test_a_folder_that_is_no_whole_model_is_named(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "tiny")
    path = judged_by(tmp_path, model)
    assert problems(load_recipe(path)) == []
    (model / "model.safetensors").rename(tmp_path / "away")
    [found] = problems(load_recipe(path))
    assert found == f"evaluate.policy: {model}: has a config.json and no weights (*.safetensors)"
    (tmp_path / "away").rename(model / "model.safetensors")
    write_json(model / "model.safetensors.index.json", {"weight_map": {"a": "part-2.safetensors"}})
    [found] = problems(load_recipe(path))
    assert "names part-2.safetensors, which is not there" in found


def test_a_model_without_a_chat_template_is_told_which_to_name(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "tiny")
    for file in model.glob("chat_template*"):
        file.unlink()
    config = json.loads((model / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    write_json(model / "tokenizer_config.json", config)
    [found] = problems(load_recipe(judged_by(tmp_path, model)))
    assert "name one with evaluate.policy.chat_template" in found
    named = 'chat_template = "chatml"'
    assert problems(load_recipe(judged_by(tmp_path, model, named))) == []


def test_only_some_weights_of_a_mixture(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    text = f'[[ingest.datasets]]\nkind = "jsonl"\npath = "{tmp_path}/a.jsonl"\n'
    found = problems(load_recipe(recipe(tmp_path, f'{text}name = "x"\nweight = 1.0\n{text}')))
    assert any("weight: missing" in one for one in found)


def test_slow_bfloat16_and_few_prompts_are_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = tmp_path / "cpuinfo"
    monkeypatch.setattr(machine, "_CPU_INFO", cpu)
    monkeypatch.setattr(machine, "has_gpu", lambda: False)
    text = 'people = 40\n[train]\nmodel = {path = "a/b"}\ntraining = {dtype = "bfloat16"}\n'
    path = tmp_path / "r.toml"
    path.write_text(f'name = "r"\n[[ingest.datasets]]\nkind = "food"\n{text}[evaluate]\n')
    cpu.write_text("flags\t\t: fpu avx2 avx512f\n")
    slow, few = warnings(load_recipe(path))
    assert "train.training.dtype: bfloat16 is many times slower than float32 on this CPU" in slow
    assert "at most 4 or so of 40 rows will be test prompts" in few
    assert "a win rate 49 points or more from 50%" in few
    cpu.write_text("flags\t\t: fpu avx2 avx512_bf16\n")
    assert len(warnings(load_recipe(path))) == 1


def test_hub_ids_are_looked_up_where_there_is_a_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_llama(tmp_path / "tiny")
    more = (
        f'[evaluate]\n[evaluate.policy]\npath = "{model}"\n'
        '[evaluate.baseline]\npath = "nobody/nothing"\n'
        '[evaluate.compare_with.third]\npath = "nobody/something"\n'
    )
    loaded = load_recipe(recipe(tmp_path, more))
    problems_found, unknown = hub_problems(loaded)
    assert problems_found == []
    assert len(unknown) == 2
    assert (
        "evaluate.baseline: nobody/nothing is no folder here and cannot be looked up here"
        in (unknown[0])
    )
    asked: list[str] = []

    def model_info(_: object, name: str, **__: object) -> None:
        asked.append(name)
        if name == "nobody/nothing":
            raise RepositoryNotFoundError.__new__(RepositoryNotFoundError, "404")

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(HfApi, "model_info", model_info)
    [missing], unknown = hub_problems(loaded)
    assert "evaluate.baseline: nobody/nothing: the hub does not have it" in missing
    assert (unknown, asked) == ([], ["nobody/nothing", "nobody/something"])

    def silent(*_: object, **__: object) -> None:
        asked.append("silence")
        raise TimeoutError("no answer")

    monkeypatch.setattr(HfApi, "model_info", silent)
    found, unknown = hub_problems(loaded)
    assert (found, len(unknown), asked.count("silence")) == ([], 2, 1)
    assert hub_problems(loaded, ask=False)[1][0].count("nobody was asked")


def test_no_prompt_to_measure_on_is_told_before_anything_is_paid_for(tmp_path: Path) -> None:
    lines = (json.dumps({"prompt": f"p{i}", "chosen": "a", "rejected": "b"}) for i in range(3))
    (tmp_path / "few.jsonl").write_text("\n".join(lines) + "\n")
    path = tmp_path / "r.toml"
    path.write_text(
        'name = "r"\n[ingest]\ntest_fraction = 0.001\n[[ingest.datasets]]\nkind = "jsonl"\n'
        f'path = "{tmp_path}/few.jsonl"\n[judge]\nkind = "length"\n'
        '[evaluate]\npolicy = {path = "a/b"}\n'
    )
    with pytest.raises(DataError, match="none of 3 prompts is in the test split"):
        run_recipe(load_recipe(path), tmp_path / "run")
    assert not (tmp_path / "run" / "judge").exists()


def test_a_task_that_a_package_or_a_file_does_not_define(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("@task\ndef mine():\n    return Task()\n")
    text = '[evaluate]\npolicy = {{path = "a/b"}}\ntasks = ["{0}"]\n'
    for task, said in (
        (f"{tmp_path}/own.py@mine", None),
        (f"{tmp_path}/own.py@yours", "own.py defines no task yours"),
        ("inspect_ai/no_such_thing_here", "inspect_ai is installed and defines no such task"),
    ):
        found = problems(load_recipe(recipe(tmp_path, text.format(task))))
        assert [str(said) in one for one in found] == ([True] if said else [])


def test_a_name_of_before_is_read_and_validate_says_what_it_is_now(tmp_path: Path) -> None:
    text = (
        '[judge]\nkind = "length"\n[sample]\nmodel = {path = "a/b"}\n'
        "max_test_prompts = 3\n[label]\n"
    )
    done = CliRunner().invoke(app, ["validate", "-r", str(recipe(tmp_path, text)), "--offline"])
    assert done.exit_code == 0
    assert "warning: sample.max_test_prompts is max_dev_prompts now" in done.stdout


def test_a_path_where_a_section_is_meant_is_told_as_a_section(tmp_path: Path) -> None:
    text = '[evaluate]\npolicy = "some/folder"\n'
    with pytest.raises(ConfigError, match=r'evaluate.policy = { path = "some/folder" }'):
        load_recipe(recipe(tmp_path, text))


def test_a_server_of_a_later_stage_is_asked_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachable, "_SECONDS_BETWEEN", 0.01)
    path = recipe(
        tmp_path,
        '[evaluate]\npolicy = {path = "a/b"}\n[evaluate.truth]\nkind = "llm"\n'
        'server = {base_url = "http://127.0.0.1:9/v1", model = "m"}\n'
        '[evaluate.compare_with.other]\nserver = "http://127.0.0.1:9/v1"\nmodel = "n"\n',
    )
    loaded = load_recipe(path)
    assert problems(loaded) == []
    (truth, other), spared = server_problems(loaded, ["evaluate"])
    assert spared == []
    assert truth.startswith("evaluate.truth.server: http://127.0.0.1:9/v1: nobody is there")
    assert other.startswith("evaluate.compare_with.other: ")
    assert server_problems(loaded, ["train"]) == ([], [])
    for command in ("validate", "run"):
        where = ["-d", str(tmp_path / "run")] if command == "run" else []
        done = CliRunner().invoke(app, [command, "--recipe", str(path), *where])
        assert isinstance(done.exception, ConfigError)
        assert "nobody is there" in str(done.exception)
    assert not (tmp_path / "run" / "ingest").exists()
    offline = ["validate", "--recipe", str(path), "--offline"]
    assert CliRunner().invoke(app, offline).exit_code == 0


@pytest.mark.parametrize(("enough", "goes_on"), [(1, True), (2, False)])
def test_a_panel_with_enough_members_left_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enough: int, goes_on: bool
) -> None:
    monkeypatch.setattr(reachable, "_SECONDS_BETWEEN", 0.01)
    gone = 'base_url = "http://127.0.0.1:9/v1"\nmodel = "gone"\n'
    text = (
        f'[judge]\nkind = "panel"\nmin_scored = {enough}\n'
        '[[judge.members]]\nkind = "length"\n'
        f'[[judge.members]]\nkind = "llm"\n[judge.members.server]\n{gone}'
    )
    found, spared = server_problems(load_recipe(recipe(tmp_path, text)), ["judge"])
    said = "judge.members.1.server: http://127.0.0.1:9/v1: nobody is there"
    if goes_on:
        (warning,) = spared
        assert warning.startswith(said)
        assert warning.endswith("goes on with 1 of 2 members, of which 1 are enough")
        assert found == []
    else:
        assert [one.startswith(said) for one in found] == [True]
        assert spared == []
    truth = f'[evaluate.truth]\nkind = "llm"\n[evaluate.truth.server]\n{gone}'
    both = load_recipe(recipe(tmp_path, f'{text}[evaluate]\npolicy = {{path = "a/b"}}\n{truth}'))
    found, spared = server_problems(both, ["judge", "evaluate"])
    where = "evaluate.truth.server" if goes_on else "judge.members.1.server"
    assert [one.partition(": ")[0] for one in found] == [where], "a server is told once"
    assert len(spared) == goes_on


def test_validate_answers_in_json_for_a_bad_recipe_too(tmp_path: Path) -> None:
    path = recipe(tmp_path, '[train]\nmodle = 1\nmodel = {path = "a/b"}\n')
    done = CliRunner().invoke(app, ["validate", "--recipe", str(path), "--json"])
    found = json.loads(done.stdout)
    assert (done.exit_code, found["valid"]) == (2, False)
    assert any("train.modle: unknown key" in problem for problem in found["problems"])
    good = recipe(tmp_path, "")
    said = CliRunner().invoke(app, ["validate", "--recipe", str(good), "--json"])
    assert (said.exit_code, json.loads(said.stdout)["valid"]) == (0, True)


WRONG = "{% for m in messages %}<|turn|>{{ m.role }}: {{ m.content }}<|end|>{% endfor %}"


def with_template(folder: Path, template: str) -> Path:
    tiny_llama(folder)
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def test_a_chat_template_that_cannot_be_used_is_found_by_validate_and_by_run(
    tmp_path: Path,
) -> None:
    wrong, right = with_template(tmp_path / "wrong", WRONG), tiny_llama(tmp_path / "right")
    text = (
        f'[judge.judge]\nkind = "reward_model"\nmodel = {{path = "{wrong}"}}\n'
        f'[train]\nmodel = {{path = "{right}"}}\n[train.reference]\npath = "{wrong}"\n'
    )
    path = recipe(tmp_path, text)
    loaded = load_recipe(path)
    assert list(chat_models(loaded)) == ["train.model", "train.reference"]
    found = template_problems(chat_models(loaded))
    assert len(found) == 1
    assert found[0].startswith(f"train.reference: {wrong}: the chat template ends a turn with")
    runner = CliRunner()
    said = runner.invoke(app, ["validate", "--recipe", str(path), "--json"])
    assert said.exit_code == 2
    assert json.loads(said.stdout)["problems"] == [f"{path}: 1 problem: {found[0]}"]
    assert runner.invoke(app, ["validate", "--recipe", str(path), "--no-models"]).exit_code == 0
    with pytest.raises(ConfigError, match=r"train\.reference: .*ends a turn with"):
        run_recipe(loaded, tmp_path / "run")
    assert not (tmp_path / "run" / "ingest").exists()


def test_a_recipe_without_local_models_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("subprocess.run")
    assert CliRunner().invoke(app, ["validate", "--recipe", "food"]).exit_code == 0
