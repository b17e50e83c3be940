"""train: DPO through the stage: pairs, reference, rejects, resume after kill -9, LoRA."""

import json
import math
import signal
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from evals.food_world import FOODS
from evals.models.adapters import BASE_RECORD
from evals.models.checkpoints import ModelSource, load_causal_lm
from evals.models.logps import completion_logps
from evals.models.rendering import RenderedCompletion
from schemas.errors import BackendError, ConfigError, DataError
from schemas.files import remove
from schemas.parquet import read_rows, write_table
from schemas.stage import Runtime, StageContext
from schemas.tables import REJECTS, UNPAIRED
from stages.train import STAGE
from stages.train.config import TrainConfig
from stages.training.checkpoints.four_bits import weight_format
from stages.training.data.reference_policy.reference import REFERENCE_LOGPS, ReferencePass
from stages.training.monitoring.metrics import PERFORMANCE
from stages.training.monitoring.written import GENERATIONS
from tests.fixtures.command_line import script
from tests.fixtures.patience import PATIENCE
from tests.fixtures.preferences import (
    NAMES,
    TEST_NAMES,
    comparison,
    demonstration,
    preference_pair,
    write_ingest,
    write_label,
)
from tests.fixtures.tiny_models import tiny_llama

ROOT = Path(__file__).resolve().parents[2]
TRAINING = {
    "learning_rate": 3e-3,
    "batch_size": 4,
    "num_epochs": 4,
    "eval_every": 3,
    "save_every": 2,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_llama(tmp_path_factory.mktemp("base"), hidden_size=32, layers=1, spread=0.2)


def settings_of(base: Path, **changes: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {"model": {"path": str(base)}, "training": TRAINING, "generations": {"max_tokens": 6}}
        | changes
    )


def context_of(
    folder: Path,
    pairs: list[dict[str, Any]] | None = None,
    comparisons: list[dict[str, Any]] | None = None,
) -> StageContext:
    inputs = {"ingest": write_ingest(folder / "ingest", comparisons=comparisons)}
    if pairs is not None:
        inputs["label"] = write_label(folder / "label", pairs)
    (folder / "train").mkdir()
    return StageContext(inputs, folder / "train", Runtime(device="cpu", threads=1))


def record(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in PERFORMANCE} for row in rows]


def test_human_comparisons_train_and_hold_out(base: Path, tmp_path: Path) -> None:
    context = context_of(tmp_path)
    counts = STAGE.run(settings_of(base), context)
    assert counts["train"] == len(NAMES) - len(TEST_NAMES)
    assert counts["held_out"] == len(TEST_NAMES)
    assert sorted(p.name for p in context.output.iterdir()) == [
        "checkpoints.json",
        "generations.parquet",
        "metrics.jsonl",
        "metrics.parquet",
        "model",
        "reference_logps.parquet",
        "rejects.parquet",
        "summary.json",
    ]
    rows = record(context.output)
    assert rows[0]["eval_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[-1]["eval_rewards/margins"] > 0
    summary = json.loads((context.output / "summary.json").read_text())
    assert summary["eval_last"] == {
        k: v for k, v in rows[-1].items() if k == "step" or k.startswith("eval_")
    }
    assert summary["final"] == rows[-1]
    assert summary["loss"]["kind"] == "sigmoid"
    assert summary["counts"] == dict(counts)


def test_published_kept_and_final_checkpoints_are_what_their_steps_left(
    base: Path, tmp_path: Path
) -> None:
    """A measure that falls while training goes on: the first evaluated step is the best."""
    rising = {"kind": "best", "measure": "eval_rewards/margins", "mode": "min"}
    config = settings_of(base, publish=rising, keep_checkpoints=2)
    context = context_of(tmp_path)
    counts = STAGE.run(config, context)
    rows = {row["step"]: row for row in record(context.output) if "eval_loss" in row}
    first, second, *_, last = sorted(rows, key=lambda step: rows[step]["eval_rewards/margins"])[1:]
    record_ = json.loads((context.output / "checkpoints.json").read_text())
    places = {c["step"]: c["path"] for c in record_["checkpoints"]}
    assert places == {
        first: "model",
        second: f"checkpoints/step-{second}",
        counts["steps"]: f"checkpoints/step-{counts['steps']}",
    }
    assert last == counts["steps"]
    assert record_["published_step"] == counts["published_step"] == first
    assert record_["why"].startswith("the lowest eval_rewards/margins, ")
    assert {p.name for p in (context.output / "checkpoints").iterdir()} == {
        f"step-{second}",
        f"step-{last}",
    }
    assert all((context.output / path / "tokenizer.json").exists() for path in places.values())


def test_policy_writes_at_every_evaluation(base: Path, tmp_path: Path) -> None:
    context = context_of(tmp_path)
    settings = {"prompts": 2, "max_tokens": 6, "world": "food"}
    STAGE.run(settings_of(base, generations=settings), context)
    rows = read_rows(context.output / "generations.parquet", GENERATIONS)
    steps = [row["step"] for row in record(context.output) if "eval_loss" in row]
    assert [(r["step"], r["prompt_id"]) for r in rows] == sorted(
        (step, prompt_id) for step in steps for prompt_id in {r["prompt_id"] for r in rows}
    )
    assert {r["prompt"][0]["content"] for r in rows} <= {
        f"what does {name} like?" for name in TEST_NAMES
    }
    for metrics in record(context.output):
        mine = [r for r in rows if r["step"] == metrics["step"]]
        if mine:
            lengths = [r["num_tokens"] for r in mine]
            assert metrics["eval_completions/mean_length"] == sum(lengths) / 2
            ended = [r["finish_reason"] == "stop" for r in mine]
            assert metrics["eval_completions/end_of_turn_rate"] == sum(ended) / 2
            formed = [r["completion"][0]["content"] in FOODS for r in mine]
            assert [r["well_formed"] for r in mine] == formed
            assert metrics["eval_completions/well_formed_rate"] == sum(formed) / 2


def test_unknown_measure_is_refused_before_the_first_step(base: Path, tmp_path: Path) -> None:
    config = settings_of(base, publish={"kind": "best", "measure": "eval_acuracy"})
    context = context_of(tmp_path)
    with pytest.raises(ConfigError, match=r"eval_acuracy is not measured; one of eval_loss, "):
        STAGE.run(config, context)
    assert [row["step"] for row in record(context.output)] == [0]


def test_label_pairs_take_the_place_of_human_ones(base: Path, tmp_path: Path) -> None:
    pairs = [preference_pair(n, "pizza", "ramen") for n in NAMES[3:]]
    context = context_of(tmp_path, pairs)
    counts = STAGE.run(settings_of(base), context)
    ids = set(pq.read_table(context.output / "reference_logps.parquet")["pair_id"].to_pylist())
    assert {p["pair_id"] for p in pairs} <= ids
    assert counts["train"] == len(pairs)
    assert counts["held_out"] == len(TEST_NAMES)  # people's, as label has none of the test split


def test_reference_table_is_the_start_models_log_probabilities(base: Path, tmp_path: Path) -> None:
    from evals.models.checkpoints import load_tokenizer
    from evals.models.rendering import ChatRenderer

    pair = preference_pair("kai", "pizza", "ramen")
    context = context_of(tmp_path, [pair])
    STAGE.run(settings_of(base), context)
    source = ModelSource(path=str(base))
    renderer = ChatRenderer(load_tokenizer(source))
    sides = [renderer.render(pair["prompt"], pair[side]) for side in ("chosen", "rejected")]
    with torch.no_grad():
        logps = completion_logps(load_causal_lm(source, torch.device("cpu")), sides)
    rows = read_rows(context.output / "reference_logps.parquet", REFERENCE_LOGPS)
    (row,) = (r for r in rows if r["pair_id"] == pair["pair_id"])
    assert [row["chosen_logps"], row["rejected_logps"]] == pytest.approx(logps.tolist(), abs=1e-4)
    assert row["chosen_tokens"] == len(sides[0].completion_ids)


def test_every_unusable_pair_has_its_reason(base: Path, tmp_path: Path) -> None:
    rows = [
        comparison("kai", "pizza", "sushi", "A", 0),
        comparison("lea", "pizza", "sushi", "Tie", 1),
        comparison("jun", "pizza", "sushi", None, 2),
        comparison("ivo", "", "sushi", "B", 3),
        comparison("hana", "soup", "soup", "A", 4),
        comparison("eve", "soup " * 100, "sushi", "A", 5),
        comparison("kai", "sushi", "pizza", "B", 6),
    ]
    context = context_of(tmp_path, comparisons=rows)
    counts = STAGE.run(settings_of(base), context)
    rejects = read_rows(context.output / "rejects.parquet", REJECTS)
    reasons = {r["row"]: r["reason"] for r in rejects if r["reason"] != "duplicate_pair"}
    assert reasons == {
        1: "tie",
        2: "unlabelled",
        3: "empty_completion",
        4: "identical_completions",
        5: "too_long",
    }
    assert [r["row"] for r in rejects if r["reason"] == "duplicate_pair"] in ([0], [6])
    assert counts["rows_in"] == counts["train"] + counts["held_out"] + counts["rejects"] == 7
    assert counts["rejects/tie"] == 1


def test_no_usable_pair_is_an_error_that_counts_the_reasons(base: Path, tmp_path: Path) -> None:
    context = context_of(tmp_path, comparisons=[comparison("kai", "pizza", "sushi", "Tie")])
    with pytest.raises(DataError, match=r"no preference pair .* \(1 tie\); loosen"):
        STAGE.run(settings_of(base), context)


def test_no_start_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"set train.model or add \[sft\]"):
        STAGE.run(TrainConfig(), context_of(tmp_path))


def test_explicit_reference(base: Path, tmp_path: Path) -> None:
    other = tiny_llama(tmp_path / "other", hidden_size=32, layers=1, spread=0.2, seed=9)
    context = context_of(tmp_path)
    STAGE.run(settings_of(base, reference={"path": str(other)}), context)
    assert record(context.output)[0]["eval_loss"] != pytest.approx(math.log(2), abs=1e-3)
    foreign = tiny_llama(tmp_path / "foreign", ["pizza pizza pizza"] * 5, hidden_size=32, layers=1)
    config = settings_of(base, reference={"path": str(foreign)})
    with pytest.raises(ConfigError, match="another vocabulary"):
        STAGE.run(config, context_of(tmp_path / "second"))


def test_lora_writes_an_adapter_that_opens_on_the_base(base: Path, tmp_path: Path) -> None:
    context = context_of(tmp_path)
    config = settings_of(base, training={**TRAINING, "lora": {"rank": 4, "alpha": 8}})
    STAGE.run(config, context)
    folder = context.output / "model"
    assert (folder / "adapter_config.json").exists()
    assert not (folder / "model.safetensors").exists()
    model = load_causal_lm(ModelSource(path=str(folder)), torch.device("cpu"))
    plain = load_causal_lm(ModelSource(path=str(base)), torch.device("cpu"))
    sequence = [RenderedCompletion([5, 6, 7], [8, 9])]
    with torch.no_grad():
        adapted = completion_logps(model, sequence)
        with model.disable_adapter():
            assert torch.equal(completion_logps(model, sequence), completion_logps(plain, sequence))
    assert not torch.allclose(adapted, completion_logps(plain, sequence), atol=1e-3)


def test_an_adapter_goes_on_round_after_round(base: Path, tmp_path: Path) -> None:
    """The reference of a round is the adapter as the round began, never the base."""
    start, seen = base, []
    for round_ in range(3):
        context = context_of(tmp_path / f"round-{round_}")
        training = {**TRAINING, "num_epochs": 2, "lora": {"rank": 4, "alpha": 8}}
        STAGE.run(settings_of(start, training=training), context)
        rows = record(context.output)
        assert rows[0]["eval_loss"] == pytest.approx(math.log(2), abs=1e-5)
        seen.append(rows[0]["eval_logps/chosen"])
        start = context.output / "model"
        config = json.loads((start / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == str(base)
    assert len(set(seen)) == 3

    other = settings_of(start, training={**TRAINING, "lora": {"rank": 8}})
    with pytest.raises(ConfigError, match="has rank 4"):
        STAGE.run(other, context_of(tmp_path / "other"))

    context = context_of(tmp_path / "new")
    lora = {"rank": 2, "start": "new"}
    STAGE.run(settings_of(start, training={**TRAINING, "num_epochs": 2, "lora": lora}), context)
    assert record(context.output)[0]["eval_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert (context.output / "model" / "model.safetensors").exists()


def test_the_published_model_is_read_back(base: Path, tmp_path: Path) -> None:
    context = context_of(tmp_path)
    STAGE.run(settings_of(base), context)
    found = json.loads((context.output / "summary.json").read_text())["read_back"]
    assert found["saved"] == pytest.approx(found["trained"], abs=1e-5)
    assert found["dtype"] == "float32"


_RUN = """
import sys
from pathlib import Path
from schemas.stage import Runtime, StageContext
from stages.train import STAGE
from stages.train.config import TrainConfig
from stages.training.checkpoints.four_bits import weight_format
folder = Path(sys.argv[1])
runtime = Runtime(device="cpu", threads=1)
context = StageContext({"ingest": folder / "ingest"}, folder / "train", runtime)
STAGE.run(TrainConfig.model_validate_json(sys.argv[2]), context)
"""


def test_kill_9_and_the_same_command_again_give_the_undisturbed_run(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = {"num_epochs": 30, "save_every": 5, "eval_every": 10}
    config = settings_of(base, training=TRAINING | longer)
    killed = context_of(tmp_path / "killed")
    process = script(_RUN, tmp_path / "killed", config.model_dump_json())
    deadline = time.monotonic() + PATIENCE
    while not any(killed.output.glob("resume/step-*5")) and time.monotonic() < deadline:
        assert process.poll() is None, "the training ended before it could be killed"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait(PATIENCE) == -signal.SIGKILL
    with monkeypatch.context() as patch:
        patch.setattr(ReferencePass, "compute", _never)  # the reference is on disk already
        STAGE.run(config, killed)
    whole = context_of(tmp_path / "whole")
    STAGE.run(config, whole)
    assert record(killed.output) == record(whole.output)
    files = [p.relative_to(whole.output) for p in whole.output.rglob("*") if p.is_file()]
    assert {p.relative_to(killed.output) for p in killed.output.rglob("*") if p.is_file()} == {
        *files
    }
    for file in files:
        if not file.name.startswith("metrics"):
            assert (killed.output / file).read_bytes() == (whole.output / file).read_bytes(), file


def _never(*_: Any, **__: Any) -> None:
    raise AssertionError("the reference was computed again")


def test_a_policy_that_has_collapsed_is_not_published(base: Path, tmp_path: Path) -> None:
    """A wild learning rate makes both completions improbable, and the loss nothing."""
    context = context_of(tmp_path)
    wild = {**TRAINING, "learning_rate": 3.0, "max_grad_norm": 1e6, "lr_schedule": "constant"}
    with pytest.raises(BackendError, match=r"has collapsed: at step \d+ the mean log p"):
        STAGE.run(settings_of(base, training=wild), context)
    rows = record(context.output)
    assert rows[-1]["eval_logps/chosen"] < 2 * rows[0]["eval_logps/chosen"]
    assert not (context.output / "model").exists()


def test_lora_on_a_frozen_base_in_bfloat16(base: Path, tmp_path: Path) -> None:
    """Adapters stay float32; reference and policy stand on the same weights."""
    lora = {"rank": 4, "alpha": 8}
    losses = {}
    for weights in ("float32", "bfloat16"):
        context = context_of(tmp_path / weights)
        training = {**TRAINING, "lora": lora, "weights": weights}
        STAGE.run(settings_of(base, training=training), context)
        rows = record(context.output)
        assert rows[0]["eval_loss"] == pytest.approx(math.log(2), abs=5e-3)
        losses[weights] = rows[-1]["eval_loss"]
        adapter = load_file(context.output / "model" / "adapter_model.safetensors")
        assert {tensor.dtype for tensor in adapter.values()} == {torch.float32}
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.1)
    assert losses["bfloat16"] != losses["float32"]


def test_lora_on_a_base_in_four_bits(base: Path, tmp_path: Path) -> None:
    """The reference, and whoever opens the adapter, stand on the same 4-bit weights."""
    pytest.importorskip("bitsandbytes")
    context = context_of(tmp_path)
    training = {**TRAINING, "lora": {"rank": 4, "alpha": 8}, "weights": "nf4"}
    STAGE.run(settings_of(base, training=training), context)
    assert record(context.output)[0]["eval_loss"] == pytest.approx(math.log(2), abs=1e-5)
    published = context.output / "model"
    assert json.loads((published / BASE_RECORD).read_text())["weights"] == "nf4"
    read_back = json.loads((context.output / "summary.json").read_text())["read_back"]
    assert read_back["saved"] == pytest.approx(read_back["trained"], abs=1e-6)
    opened = load_causal_lm(ModelSource(path=str(published)), torch.device("cpu"))
    assert weight_format(opened) == "nf4"
    plain = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base), published
    )  # peft opens it on the true base as well
    assert plain.peft_config["default"].r == 4


def test_weights_in_four_bits_are_another_reference(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    said = {}
    for weights in ("float32", "nf4"):
        context = context_of(tmp_path / weights)
        training = {**TRAINING, "lora": {"rank": 4}, "weights": weights, "max_steps": 1}
        STAGE.run(settings_of(base, training=training), context)
        said[weights] = json.loads((context.output / "summary.json").read_text())["reference"]
    assert said["float32"] != said["nf4"]


def test_weights_in_four_bits_are_not_trained_themselves(base: Path) -> None:
    with pytest.raises(ValueError, match="cannot be trained themselves"):
        settings_of(base, training={**TRAINING, "weights": "nf4"})


@pytest.mark.parametrize("states", ["bfloat16", "int8"])
def test_weights_and_states_that_are_short(base: Path, tmp_path: Path, states: str) -> None:
    """All weights in bfloat16 learn nearly what float32 learns, also at a rate below a digit."""
    if states == "int8":
        pytest.importorskip("bitsandbytes")
    losses = {}
    for weights in ("float32", "bfloat16"):
        context = context_of(tmp_path / weights)
        short = {"weights": weights, "optimizer_states": states} if weights == "bfloat16" else {}
        STAGE.run(settings_of(base, training={**TRAINING, **short}), context)
        rows = record(context.output)
        assert rows[0]["eval_loss"] == pytest.approx(math.log(2), abs=5e-3)
        losses[weights] = rows[-1]["eval_loss"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.15)


def test_the_reference_says_only_what_max_steps_asks_for(base: Path, tmp_path: Path) -> None:
    """And where more steps are asked for later, what it has not said yet is added."""
    whole = len(NAMES) - len(TEST_NAMES)
    scored = []
    for steps in (2, None):
        (tmp_path / "train").mkdir(exist_ok=True)
        inputs = {"ingest": write_ingest(tmp_path / "ingest")}
        runtime = Runtime(device="cpu", threads=1, cache_dir=str(tmp_path / "cache"))
        context = StageContext(inputs, tmp_path / "train", runtime)
        training = TRAINING | {"max_steps": steps, "num_epochs": 1, "lr_schedule": "constant"}
        counts = STAGE.run(settings_of(base, training=training), context)
        assert counts["train"] == whole
        scored.append(pq.read_table(context.output / REFERENCE_LOGPS.file_name).num_rows)
        for left in ("model", "summary.json", "checkpoints.json"):
            remove(context.output / left)
    held_out = len(TEST_NAMES)
    assert scored == [2 * TRAINING["batch_size"] + held_out, whole + held_out]


def test_kto_trains_on_every_completion_by_itself(base: Path, tmp_path: Path) -> None:
    """Two examples a pair, half of the loss at the start, and good ones above bad ones after it."""
    context = context_of(tmp_path)
    counts = STAGE.run(settings_of(base, loss={"kind": "kto", "beta": 0.5}), context)
    assert 2 * counts["train"] >= counts["examples"] > counts["train"]
    rows = record(context.output)
    assert rows[0]["eval_loss"] == pytest.approx(0.5, abs=1e-5)
    assert rows[0]["eval_kl"] == pytest.approx(0, abs=1e-4)
    assert rows[-1]["eval_rewards/margins"] > 0
    assert rows[-1]["eval_loss"] < 0.5


def unpaired(name: str, answer: str, good: bool, row: int) -> dict[str, Any]:
    shown = demonstration(name, answer, row)
    return {
        **{key: value for key, value in shown.items() if key != "demonstration_id"},
        "unpaired_id": f"{row:032d}",
        "desirable": good,
        "category": None,
    }


@pytest.mark.parametrize("with_pairs", [True, False])
def test_kto_trains_on_answers_that_were_never_paired(
    base: Path, tmp_path: Path, with_pairs: bool
) -> None:
    """One sign a prompt is enough; beside pairs they are further examples."""
    answers = [unpaired(n, "pizza", i % 3 > 0, i) for i, n in enumerate(NAMES)]
    pairs = [comparison(n, "pizza", "sushi", "A", i) for i, n in enumerate(NAMES)]
    ingest = write_ingest(tmp_path / "ingest", [], pairs if with_pairs else [])
    write_table(ingest / UNPAIRED.file_name, UNPAIRED, answers)
    inputs = {"ingest": ingest}
    (tmp_path / "train").mkdir()
    context = StageContext(inputs, tmp_path / "train", Runtime(device="cpu", threads=1))
    counts = STAGE.run(settings_of(base, loss={"kind": "kto", "beta": 0.5}), context)
    train = sum(row["split"] == "train" for row in answers)
    assert counts["unpaired"] == train
    # A good answer of a pair and the same one alone are one example.
    same = sum(row["split"] == "train" and row["desirable"] for row in answers) if with_pairs else 0
    assert counts["examples"] == train + 2 * counts["train"] - same
    assert counts["unpaired_held_out"] > 0
    rows = [
        json.loads(line) for line in (context.output / "metrics.jsonl").read_text().splitlines()
    ]
    assert rows[0]["eval_rewards/chosen"] == rows[0]["eval_rewards/rejected"] == 0
    assert rows[-1]["eval_rewards/chosen"] != 0


def test_answers_without_a_counterpart_are_counted_where_no_loss_takes_them(
    base: Path, tmp_path: Path
) -> None:
    ingest = write_ingest(tmp_path / "ingest")
    answers = [unpaired(n, "pizza", True, i) for i, n in enumerate(NAMES)]
    write_table(ingest / UNPAIRED.file_name, UNPAIRED, answers)
    (tmp_path / "train").mkdir()
    context = StageContext({"ingest": ingest}, tmp_path / "train", Runtime(device="cpu", threads=1))
    config = settings_of(base, training={**TRAINING, "max_steps": 1})
    counts = STAGE.run(config, context)
    assert counts["unpaired_unused"] == sum(row["split"] != "test" for row in answers)


def test_kto_has_no_weights_of_pairs(base: Path) -> None:
    with pytest.raises(ValueError, match="weights of pairs"):
        settings_of(base, loss={"kind": "kto"}, weights={"kind": "margin"})


def test_a_reference_that_follows(base: Path, tmp_path: Path) -> None:
    context = context_of(tmp_path)
    STAGE.run(settings_of(base, follow={"every": 2, "mix": 0.5}), context)
    rows = record(context.output)
    assert rows[0]["eval_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[-1]["reference_updates"] == rows[-1]["step"] // 2


def test_a_reference_that_follows_is_no_other_models(base: Path, tmp_path: Path) -> None:
    settings = settings_of(base, follow={}, reference={"path": str(base)})
    with pytest.raises(ConfigError, match="begins as the policy does"):
        STAGE.run(settings, context_of(tmp_path))
