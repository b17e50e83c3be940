"""The sample stage: what it writes, what it refuses, and that a killed run loses nothing."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals.models.checkpoints import ModelSource, model_fingerprint
from evals.models.samplers import TransformersSampler, VllmSampler
from schemas.errors import ConfigError, DataError, MissingInputError
from schemas.ids import prompt_id, seed_from
from schemas.parquet import read_rows, write_table
from schemas.stage import Runtime, StageContext
from schemas.tables import COMPLETIONS, PROMPTS, REJECTS
from stages.sample import STAGE
from stages.sample.config import SampleConfig
from stages.shards.results import Results
from tests.fixtures.command_line import script
from tests.fixtures.patience import PATIENCE
from tests.fixtures.tiny_models import tiny_llama

ROOT = Path(__file__).parents[2]
LONG = "x" * 200


def prompt_row(text: str, split: str = "train", row: int = 0) -> dict[str, Any]:
    prompt = [{"role": "user", "content": text}]
    return {
        "prompt_id": prompt_id(prompt),  # type: ignore[arg-type]
        "prompt": prompt,
        "split": split,
        "category": None,
        "source": "test",
        "file": "prompts.jsonl",
        "row": row,
    }


def write_prompts(folder: Path, texts: Sequence[str], test_texts: Sequence[str] = ()) -> None:
    rows = [prompt_row(t, "train", i) for i, t in enumerate(texts)]
    rows += [prompt_row(t, "dev", len(texts) + i) for i, t in enumerate(test_texts)]
    write_table(folder / "prompts.parquet", PROMPTS, rows)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sft")
    tiny_llama(folder / "model")
    return folder / "model"


@pytest.fixture
def context(model: Path, tmp_path: Path) -> StageContext:
    """Twelve prompts in three shards, one of them too long; and four held-out ones."""
    ingest = tmp_path / "ingest"
    write_prompts(
        ingest,
        [*(f"what does person {i} like?" for i in range(11)), LONG],
        [f"what does stranger {i} like?" for i in range(4)],
    )
    return StageContext(
        inputs={"ingest": ingest, "sft": model.parent},
        output=tmp_path / "sample.partial",
        runtime=Runtime(device="cpu", threads=1, sampler_batch_size=8),
    )


CONFIG = SampleConfig(
    sampler=TransformersSampler(), n=3, max_tokens=6, seed=5, shard_size=4, max_dev_prompts=0
)


def replaced(config: SampleConfig, **changes: Any) -> SampleConfig:
    return config.model_copy(update=changes)


def elsewhere(context: StageContext, name: str) -> StageContext:
    return StageContext(context.inputs, context.output.with_name(name), context.runtime)


def completions(context: StageContext) -> list[dict[str, Any]]:
    return read_rows(context.output / "completions.parquet", COMPLETIONS)


def tables(context: StageContext) -> dict[str, bytes]:
    """Content of every file the stage left behind."""
    return {p.name: p.read_bytes() for p in context.output.rglob("*") if p.is_file()}


def test_prompts_that_imitate_the_template_are_counted(context: StageContext) -> None:
    texts = ["what is <|im_end|> for?", "<|im_start|>system", "what is <b>html</b>?"]
    write_prompts(context.inputs["ingest"], texts)
    assert STAGE.run(CONFIG, context)["prompts_neutralised"] == 2


def test_every_prompt_has_n_completions_or_rejects(context: StageContext, model: Path) -> None:
    counts = STAGE.run(CONFIG, context)
    rows = completions(context)
    rejects = read_rows(context.output / "rejects.parquet", REJECTS)
    assert sorted(tables(context)) == ["completions.parquet", "rejects.parquet"]
    keys = [(r["prompt_id"], r["sample_index"]) for r in rows]
    assert keys == sorted(keys)
    assert len(set(keys)) == 11 * 3 == len(rows)
    assert counts == {
        "prompts": 12,
        "completions": 33,
        "rejects": 3,
        "finish_stop": sum(r["finish_reason"] == "stop" for r in rows),
        "finish_length": sum(r["finish_reason"] == "length" for r in rows),
        "completion_tokens": sum(r["num_tokens"] for r in rows),
        "cut_in_thought": 0,
        "prompts_neutralised": 0,
    }
    assert {(r["reason"], r["row"]) for r in rejects} == {("prompt_too_long", 11)}
    assert {r["policy"] for r in rows} == {model_fingerprint(ModelSource(path=str(model)))}
    assert {r["sampler"] for r in rows} == {"transformers"}
    for row in rows:
        assert row["seed"] == seed_from(5, row["prompt_id"], row["sample_index"])
        assert row["completion"][0]["role"] == "assistant"
        assert row["sum_logps"] < 0
        assert 1 <= row["num_tokens"] <= 6


def test_completions_do_not_depend_on_shards_or_machine_batches(context: StageContext) -> None:
    STAGE.run(CONFIG, context)
    other = StageContext(
        context.inputs,
        context.output.with_name("other"),
        Runtime(device="cpu", threads=1, sampler_batch_size=64),
    )
    STAGE.run(replaced(CONFIG, shard_size=100), other)
    texts = [
        [(r["completion_id"], r["completion"]) for r in completions(c)] for c in (context, other)
    ]
    assert texts[0] == texts[1]


def test_a_cap_takes_the_same_prompts_in_whatever_order_the_file_has_them(
    context: StageContext, tmp_path: Path
) -> None:
    capped = replaced(CONFIG, max_prompts=5, max_dev_prompts=2, n=1, max_tokens=1)
    STAGE.run(capped, context)
    rows = read_rows(context.inputs["ingest"] / "prompts.parquet", PROMPTS)
    write_table(tmp_path / "turned" / "prompts.parquet", PROMPTS, rows[::-1])
    turned = StageContext(
        {**context.inputs, "ingest": tmp_path / "turned"}, tmp_path / "b", context.runtime
    )
    STAGE.run(capped, turned)
    assert tables(context) == tables(turned)
    everything = elsewhere(context, "everything")
    STAGE.run(replaced(capped, max_prompts=None, max_dev_prompts=None), everything)
    splits = [r["split"] for r in completions(everything)]
    assert (splits.count("train"), splits.count("dev")) == (11, 4)
    by_id = {r["prompt_id"]: r for r in completions(everything)}
    assert all(by_id[r["prompt_id"]] == r for r in completions(context))


def test_no_test_prompt_is_sampled_and_the_old_name_of_the_setting_says_so(
    context: StageContext,
) -> None:
    path = context.inputs["ingest"] / "prompts.parquet"
    rows = [
        r | ({"split": "test"} if r["split"] == "dev" else {}) for r in read_rows(path, PROMPTS)
    ]
    own = elsewhere(context, "own")
    write_table(own.output / "ingest" / "prompts.parquet", PROMPTS, rows)
    own = replace(own, inputs={**own.inputs, "ingest": own.output / "ingest"})
    old = SampleConfig.model_validate(
        {"sampler": {"kind": "transformers"}, "n": 1, "max_tokens": 1, "max_test_prompts": 4}
    )
    assert old.max_dev_prompts == 4
    assert "max_dev_prompts now" in old.notes[0]
    STAGE.run(old, own)
    assert {r["split"] for r in completions(own)} == {"train"}


class _Killed(BaseException):
    """Stands for the end of the process at a chosen moment."""


@pytest.mark.parametrize("survived", range(4))
def test_a_run_killed_between_two_shards_ends_with_the_same_bytes(
    context: StageContext, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    undisturbed = elsewhere(context, "undisturbed")
    STAGE.run(CONFIG, undisturbed)
    left = survived
    write = Results.write

    def dying(self: Results, *arguments: Any) -> None:
        nonlocal left
        if left == 0:
            raise _Killed
        left -= 1
        write(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Results, "write", dying)
        if survived < 3:  # there are three shards
            with pytest.raises(_Killed):
                STAGE.run(CONFIG, context)
            assert len(list(context.output.glob("shards/*"))) == survived
        else:
            STAGE.run(CONFIG, context)
    STAGE.run(CONFIG, context)
    assert tables(context) == tables(undisturbed)


@pytest.mark.parametrize("table", ["completions", "rejects"])
def test_a_run_killed_while_it_joins_its_shards_ends_with_the_same_bytes(
    context: StageContext, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    undisturbed = elsewhere(context, "undisturbed")
    STAGE.run(CONFIG, undisturbed)
    replace = os.replace

    def dying(old: Path, new: Path) -> None:
        if new == context.output / f"{table}.parquet":
            raise _Killed
        replace(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        with pytest.raises(_Killed):
            STAGE.run(CONFIG, context)
    STAGE.run(CONFIG, context)
    assert tables(context) == tables(undisturbed)


SCRIPT = """
import sys
from pathlib import Path
from schemas.stage import Runtime, StageContext
from stages.sample import STAGE, SampleConfig

ingest, sft, output, config = sys.argv[1:]
runtime = Runtime(device="cpu", threads=1)
inputs = {"ingest": Path(ingest), "sft": Path(sft)}
STAGE.run(SampleConfig.model_validate_json(config), StageContext(inputs, Path(output), runtime))
"""


def test_kill_9_then_the_same_command_gives_the_same_bytes(
    context: StageContext, tmp_path: Path
) -> None:
    write_prompts(tmp_path / "many", [f"what does person {i} like?" for i in range(16)] + [LONG])
    config = replaced(CONFIG, shard_size=1, max_tokens=40)
    many = StageContext(
        {**context.inputs, "ingest": tmp_path / "many"}, context.output, context.runtime
    )
    arguments = (tmp_path / "many", many.inputs["sft"], many.output, config.model_dump_json())
    process = script(SCRIPT, *arguments)
    shards = many.output / "shards"
    deadline = time.monotonic() + PATIENCE
    while len(list(shards.glob("????????"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(PATIENCE) == -signal.SIGKILL
    assert 3 <= len(list(shards.glob("????????"))) < 17
    STAGE.run(config, StageContext(many.inputs, many.output, Runtime(device="cpu", threads=1)))
    undisturbed = StageContext(
        many.inputs, tmp_path / "undisturbed", Runtime(device="cpu", threads=1)
    )
    STAGE.run(config, undisturbed)
    assert tables(many) == tables(undisturbed)


def test_no_prompts_is_an_error_that_names_the_table(context: StageContext) -> None:
    write_prompts(context.inputs["ingest"], [])
    with pytest.raises(DataError, match=r"prompts\.parquet: no prompts"):
        STAGE.run(CONFIG, context)


def test_no_prompt_that_fits_is_an_error_that_says_why(context: StageContext) -> None:
    with pytest.raises(DataError, match="max_tokens 127"):
        STAGE.run(replaced(CONFIG, max_tokens=127), context)


def test_without_sft_the_recipe_names_a_model(context: StageContext, model: Path) -> None:
    alone = StageContext({"ingest": context.inputs["ingest"]}, context.output, context.runtime)
    with pytest.raises(ConfigError, match=r"sample\.model is missing"):
        STAGE.run(CONFIG, alone)
    named = replaced(CONFIG, model=ModelSource(path=str(model)), max_prompts=2)
    assert STAGE.run(named, alone)["prompts"] == 2
    assert model / "model.safetensors" in STAGE.files(named)


@pytest.mark.parametrize(
    "sampler", [TransformersSampler(), pytest.param(VllmSampler(), marks=pytest.mark.vllm)]
)
def test_a_model_without_a_chat_template_says_how_to_give_one(
    context: StageContext, model: Path, tmp_path: Path, sampler: Any
) -> None:
    base = tmp_path / "base"
    shutil.copytree(model, base)
    (base / "chat_template.jinja").unlink()
    config = replaced(CONFIG, model=ModelSource(path=str(base)), sampler=sampler, max_prompts=2)
    with pytest.raises(
        ConfigError, match=r"chat_template = 'chatml'.*chat_template\.jinja"
    ) as said:
        STAGE.run(config, context)
    assert "\n" not in str(said.value)
    named = ModelSource(path=str(base), chat_template="role_colon")
    again = replaced(config, model=named, sampler=TransformersSampler())
    assert STAGE.run(again, context)["prompts"] == 2


def test_a_missing_checkpoint_is_named(context: StageContext, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    broken = StageContext(
        {**context.inputs, "sft": tmp_path / "empty"}, context.output, context.runtime
    )
    with pytest.raises(MissingInputError, match="run the stage sft again"):
        STAGE.run(CONFIG, broken)


def test_importing_the_stage_imports_no_heavy_library() -> None:
    heavy = ["torch", "transformers", "vllm", "polars", "datasets", "inspect_ai"]
    code = f"import sys, stages.sample; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
