"""train: what is computed once and shared by runs, what is weighed, and what bad input comes to."""

import json
import pickle
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evals.models.checkpoints import ModelSource, load_causal_lm, load_tokenizer
from schemas.errors import BackendError, ConfigError, DataError, StaleInputError
from schemas.files import SEAL
from schemas.parquet import read_rows
from schemas.stage import Runtime, SilentProgress, StageContext
from schemas.tables import REJECTS
from stages import sft
from stages.sft.config import SftConfig
from stages.train import STAGE
from stages.train.config import TrainConfig
from stages.training.data.reference_policy.reference import REFERENCE_LOGPS, PairScorer
from stages.training.objectives.preference import PairExample, PreferenceObjective
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

TRAINING = {"learning_rate": 3e-3, "batch_size": 4, "max_steps": 3, "save_every": 1}
NUM_TRAIN = len(NAMES) - len(TEST_NAMES)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_llama(tmp_path_factory.mktemp("base"), hidden_size=32, layers=1, spread=0.2)


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of all pairs that go through a reference model."""
    ids: list[str] = []
    original = PairScorer.__call__

    def counted(self: PairScorer, pairs: Sequence[PairExample]) -> Any:
        ids.extend(pair.key for pair in pairs)
        return original(self, pairs)

    monkeypatch.setattr(PairScorer, "__call__", counted)
    return ids


class Folder:
    """Runs of the stage that share a cache of their own."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder, self.base = folder, base
        self.runtime = Runtime(device="cpu", threads=1, cache_dir=str(folder / "cache"))

    def context(
        self,
        name: str,
        pairs: list[dict[str, Any]] | None = None,
        comparisons: list[dict[str, Any]] | None = None,
    ) -> StageContext:
        folder = self.folder / name
        inputs = {"ingest": write_ingest(folder / "ingest", comparisons=comparisons)}
        if pairs is not None:
            inputs["label"] = write_label(folder / "label", pairs)
        (folder / "train").mkdir()
        return StageContext(inputs, folder / "train", self.runtime)

    def config(self, training: dict[str, Any] | None = None, **changes: Any) -> TrainConfig:
        settings = {
            "model": {"path": str(self.base)},
            "training": TRAINING | (training or {}),
            "generations": {"prompts": 0},
        }
        return TrainConfig.model_validate(settings | changes)


@pytest.fixture
def runs(tmp_path: Path, base: Path) -> Folder:
    return Folder(tmp_path, base)


def record(context: StageContext) -> list[dict[str, float]]:
    lines = (context.output / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def table(context: StageContext) -> bytes:
    return (context.output / REFERENCE_LOGPS.file_name).read_bytes()


def test_the_reference_runs_once_whatever_else_changes(runs: Folder, scored: list[str]) -> None:
    first = runs.context("first")
    STAGE.run(runs.config(), first)
    assert Counter(scored).most_common(1)[0][1] == 1
    assert len(scored) == len(NAMES)
    scored.clear()
    changes: list[dict[str, Any]] = [
        {},  # only the output directory is another one
        {"training": {"learning_rate": 1e-4}},
        {"training": {"max_steps": None, "num_epochs": 2}},
        {"training": {"batch_size": 3, "micro_batch_size": 1, "tokens_per_micro_batch": 64}},
        {"training": {"lora": {"rank": 2}}},
        {"loss": {"kind": "ipo"}},
    ]
    for number, change in enumerate(changes):
        again = runs.context(f"again-{number}")
        STAGE.run(runs.config(**change), again)
        assert scored == []
        assert table(again) == table(first)
    more = [preference_pair(name, "pizza", "soup") for name in NAMES[3:6]]
    STAGE.run(runs.config(), runs.context("more", more))
    assert Counter(scored) == Counter(row["pair_id"] for row in more)


def test_another_reference_or_precision_is_another_number(
    runs: Folder, scored: list[str], tmp_path: Path
) -> None:
    STAGE.run(runs.config(), runs.context("first"))
    other = tiny_llama(tmp_path / "other", hidden_size=32, layers=1, spread=0.2, seed=9)
    changes: list[dict[str, Any]] = [
        {"reference": {"path": str(other)}},
        {"training": {"dtype": "bfloat16"}},
        {"training": {"matmul_precision": "medium"}},
    ]
    for number, change in enumerate(changes):
        scored.clear()
        STAGE.run(runs.config(**change), runs.context(f"run-{number}"))
        assert len(scored) == len(NAMES)
    scored.clear()
    STAGE.run(runs.config(reference={"path": str(other)}), runs.context("explicit-again"))
    assert scored == []


def test_without_the_cache_the_result_is_the_same(runs: Folder, base: Path, tmp_path: Path) -> None:
    warm, warmed, cold = runs.context("warm"), runs.context("warmed"), runs.context("cold")
    STAGE.run(runs.config(), warm)
    STAGE.run(runs.config(), warmed)
    runtime = Runtime(device="cpu", threads=1, cache_dir=str(tmp_path / "nothing-yet"))
    STAGE.run(runs.config(), StageContext(cold.inputs, cold.output, runtime))
    for name in ("model/model.safetensors", REFERENCE_LOGPS.file_name, REJECTS.file_name):
        contents = {(context.output / name).read_bytes() for context in (warm, warmed, cold)}
        assert len(contents) == 1, name


def test_a_resumed_training_never_takes_another_reference(runs: Folder, tmp_path: Path) -> None:
    context = runs.context("run")
    STAGE.run(runs.config({"lr_schedule": "constant"}), context)  # keeps what it resumes from
    assert (context.output / "resume" / "step-3").is_dir()
    other = tiny_llama(tmp_path / "other", hidden_size=32, layers=1, spread=0.2, seed=9)
    config = runs.config({"lr_schedule": "constant"}, reference={"path": str(other)})
    with pytest.raises(StaleInputError, match="another reference policy than the recipe has now"):
        STAGE.run(config, context)
    (context.output / REFERENCE_LOGPS.file_name).unlink()
    with pytest.raises(StaleInputError, match="training began with another reference"):
        STAGE.run(config, context)


def test_margins_of_label_weigh_pairs(runs: Folder) -> None:
    margins = [0.2, 0.4, 0.9, None, 0.0]
    pairs = [
        {**preference_pair(name, "pizza", "ramen", i), "margin": margin}
        for i, (name, margin) in enumerate(zip(NAMES[3:], margins, strict=False))
    ]
    context = runs.context("run", pairs)
    weights = {"kind": "margin"}
    counts = STAGE.run(runs.config({"max_steps": 2}, weights=weights), context)
    assert (counts["train"], counts["held_out"]) == (3, len(TEST_NAMES))
    assert (counts["rejects/no_margin"], counts["rejects/zero_margin"]) == (1, 1)
    assert counts["rows_in"] == counts["train"] + counts["held_out"] + counts["rejects"]
    # (0.2 + 0.4 + 0.9)^2 / (0.04 + 0.16 + 0.81) = 2.25 / 1.01; all three are one step.
    rows = record(context)
    assert rows[1]["effective_pairs"] == pytest.approx(2.25 / 1.01)
    assert counts["effective_pairs"] == 2
    assert "eval_effective_pairs" not in rows[-1]


def test_equal_strengths_train_like_no_weights(runs: Folder) -> None:
    strong = [{**comparison(n, "pizza", "sushi", "A"), "strength": 2.0} for n in NAMES]
    models = []
    for kind in ("none", "strength"):
        context = runs.context(kind, comparisons=strong)
        STAGE.run(runs.config(weights={"kind": kind}), context)
        models.append((context.output / "model" / "model.safetensors").read_bytes())
    assert models[0] == models[1]
    unequal = [{**row, "strength": 1.0 + i} for i, row in enumerate(strong)]
    context = runs.context("unequal", comparisons=unequal)
    STAGE.run(runs.config(weights={"kind": "strength", "power": 2}), context)
    assert (context.output / "model" / "model.safetensors").read_bytes() != models[0]


def test_pairs_without_the_weight_that_is_asked_for_are_an_error(runs: Folder) -> None:
    context = runs.context("run", [preference_pair("kai", "pizza", "sushi")])
    with pytest.raises(DataError, match=r"no preference pair .* \(.*1 no_strength.*\)"):
        STAGE.run(runs.config(weights={"kind": "strength"}), context)


def test_a_prompt_that_leaves_no_room_is_counted_apart(runs: Folder) -> None:
    rows = [comparison(n, "pizza", "sushi", "A", i) for i, n in enumerate(NAMES)]
    rows += [comparison("long " * 40, "pizza", "sushi", "A", 90)]
    rows += [comparison("kai", "pizza " * 40, "sushi", "A", 91)]
    context = runs.context("run", comparisons=rows)
    counts = STAGE.run(runs.config(), context)
    rejects = {r["row"]: r for r in read_rows(context.output / "rejects.parquet", REJECTS)}
    assert {n: r["reason"] for n, r in rejects.items()} == {90: "prompt_too_long", 91: "too_long"}
    assert "at most 128" in rejects[91]["detail"]  # the model's own limit
    assert (counts["rejects/prompt_too_long"], counts["rejects/too_long"]) == (1, 1)
    summary = json.loads((context.output / "summary.json").read_text())
    assert summary["counts"]["rejects/too_long"] == 1


def test_a_loss_that_is_not_finite_names_step_and_pairs_and_spares_the_checkpoint(
    runs: Folder,
) -> None:
    context = runs.context("run")
    with pytest.raises(BackendError) as caught:
        STAGE.run(runs.config({"learning_rate": 1e30, "max_grad_norm": 1e30}), context)
    message = str(caught.value)
    assert message.startswith("step 2: the loss is not finite (items ")
    named = message.partition("(items ")[2].partition(")")[0].split(", ")
    rows = read_rows(context.output / REFERENCE_LOGPS.file_name, REFERENCE_LOGPS)
    assert set(named) <= {row["pair_id"] for row in rows}
    (kept,) = (context.output / "resume").iterdir()
    assert kept.name == "step-1"
    weights = load_file(kept / "trainable.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values())
    assert [row["step"] for row in record(context)] == [0, 1]


def test_pairs_that_cannot_fit_are_refused_before_the_reference_is_computed(
    runs: Folder, scored: list[str]
) -> None:
    config = runs.config(training={"max_activation_gb": 0.0001})
    with pytest.raises(ConfigError, match=r"max_activation_gb: 0\.0001 GB do not hold an item"):
        STAGE.run(config, runs.context("run"))
    assert scored == []


def test_no_memory_says_which_setting_to_lower(
    runs: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(PreferenceObjective, "accumulate", full)
    with pytest.raises(BackendError, match="step 1: out of memory; lower micro_batch_size"):
        STAGE.run(runs.config(), runs.context("run"))


def test_a_tokenizer_of_another_model_is_refused(runs: Folder, base: Path, tmp_path: Path) -> None:
    small = tiny_llama(tmp_path / "small", hidden_size=32, layers=1, spread=0.2)
    config = json.loads((small / "config.json").read_text())
    model = load_causal_lm(ModelSource(path=str(small)), torch.device("cpu"))
    model.resize_token_embeddings(config["vocab_size"] - 150)
    model.save_pretrained(small)
    source = {"path": str(small)}
    with pytest.raises(ConfigError, match="do not belong together"):
        STAGE.run(runs.config(model=source), runs.context("train"))
    with pytest.raises(ConfigError, match="do not belong together"):
        sft.STAGE.run(SftConfig.model_validate({"model": source}), runs.context("sft"))


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_no_pickled_code_is_run_on_resume(runs: Folder, tmp_path: Path) -> None:
    context = runs.context("run")
    config = runs.config({"lr_schedule": "constant"})
    STAGE.run(config, context)
    optimizer = context.output / "resume" / "step-3" / "optimizer.pt"
    touched = tmp_path / "touched"
    optimizer.write_bytes(pickle.dumps(Malicious(touched), protocol=2))
    STAGE.run(config, context)  # its seal is broken: it is set aside, and the work done again
    assert not touched.exists()
    (optimizer.parent / SEAL).unlink()  # one of an earlier version, or of somebody who knows seals
    for damage in (pickle.dumps(Malicious(touched), protocol=2), b"", optimizer.read_bytes()[:100]):
        optimizer.write_bytes(damage)
        with pytest.raises(BackendError, match=r"not a checkpoint that can be read .*; delete"):
            STAGE.run(config, context)
    torch.save({"optimizer": Malicious(touched)}, optimizer)
    with pytest.raises(BackendError, match="not a checkpoint that can be read"):
        STAGE.run(config, context)
    assert not touched.exists()


def test_code_that_comes_with_a_model_runs_only_where_the_recipe_says_so(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = "transformers.dynamic_module_utils.HF_MODULES_CACHE"
    monkeypatch.setattr(cache, str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder, touched = tmp_path / "model", tmp_path / "touched"
    model = load_causal_lm(ModelSource(path=str(base)), torch.device("cpu"))
    model.save_pretrained(folder)
    load_tokenizer(ModelSource(path=str(base))).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "its_own", "auto_map": {"AutoConfig": "its_own.Settings"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "its_own.py").write_text(
        f"from pathlib import Path\nPath({str(touched)!r}).touch()\n"
        "from transformers import LlamaConfig\n"
        "class Settings(LlamaConfig):\n    model_type = 'its_own'\n"
    )
    with pytest.raises(BackendError, match="cannot be loaded"):
        load_causal_lm(ModelSource(path=str(folder)), torch.device("cpu"))
    assert not touched.exists()
    trusted = ModelSource(path=str(folder), trust_remote_code=True)
    with pytest.raises(BackendError, match="cannot be loaded"):  # its code has no model class
        load_causal_lm(trusted, torch.device("cpu"))
    assert touched.exists()


def test_sft_tokenizes_once(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from evals.models.rendering import ChatRenderer

    rendered: list[int] = []
    original = ChatRenderer.render_many

    def counted(self: ChatRenderer, items: Any, asked: Any = None) -> Any:
        rendered.append(len(items))
        return original(self, items, asked)

    monkeypatch.setattr(ChatRenderer, "render_many", counted)
    rows = [demonstration(n, "pizza", i) for i, n in enumerate(NAMES)]
    rows.append(demonstration("kai", " ", 50))
    settings = {"model": {"path": str(base)}, "training": TRAINING}
    runtime = Runtime(device="cpu", threads=1, cache_dir=str(tmp_path / "cache"))
    written = []
    for number in range(2):
        output = tmp_path / str(number)
        output.mkdir()
        ingest = write_ingest(tmp_path / f"ingest-{number}", demonstrations=rows)
        progress = SilentProgress()
        context = StageContext({"ingest": ingest}, output, runtime, progress)
        counts = sft.STAGE.run(SftConfig.model_validate(settings), context)
        assert counts["rejects/empty_completion"] == 1
        files = ("rejects.parquet", "model/model.safetensors")
        written.append([(output / name).read_bytes() for name in files])
    assert written[0] == written[1]
    assert sum(rendered) == len(NAMES)


def test_a_source_is_seen_as_often_as_is_declared(runs: Folder, scored: list[str]) -> None:
    """Two and a half times, or half: the pairs of a pass, each scored once by the reference."""
    theirs = [
        comparison(name, "pizza", "soup", "A", row) | {"source": "hh" if row % 2 else "other"}
        for row, name in enumerate(sorted(set(NAMES) - set(TEST_NAMES)))
    ]
    config = runs.config({"num_epochs": 1, "max_steps": None}, repeat={"hh": 2.5, "other": 0})
    counts = STAGE.run(config, runs.context("first", comparisons=theirs))
    ours = sum(row["source"] == "hh" and row["split"] == "train" for row in theirs)
    assert counts["train_distinct"] == ours
    assert counts["train"] == 2 * ours + round(0.5 * ours)
    assert Counter(scored).most_common(1)[0][1] == 1
    with pytest.raises(ConfigError, match="no training pair is of source 'hf'"):
        STAGE.run(runs.config(repeat={"hf": 2}), runs.context("no", comparisons=theirs))


def test_sampled_and_given_pairs_are_mixed_in_one_training(runs: Folder) -> None:
    mine = [preference_pair(name, "pizza", "sushi") for name in NAMES]
    theirs = [comparison(name, "pizza", "soup", "A", row) for row, name in enumerate(NAMES)]
    seen = {}
    for which in ("sampled", "given", "both"):
        context = runs.context(which, mine, theirs)
        seen[which] = STAGE.run(runs.config(pairs=which), context)["train"]
    assert seen["both"] == seen["sampled"] + seen["given"]
    twice = runs.config(pairs="both", repeat={"sampled": 2.0})
    counts = STAGE.run(twice, runs.context("twice", mine, theirs))
    assert counts["train"] == 2 * seen["sampled"] + seen["given"]
    with pytest.raises(ConfigError, match="the recipe has none"):
        STAGE.run(runs.config(pairs="both"), runs.context("none", comparisons=theirs))


def lengths_of(names: Sequence[str], sizes: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    return [
        preference_pair(name, "a" * chosen, "b" * rejected, row) | {"margin": row / 100}
        for row, (name, (chosen, rejected)) in enumerate(zip(names, sizes, strict=True))
    ]


def test_pairs_are_dropped_or_balanced_by_their_difference_in_length(runs: Folder) -> None:
    """By hand: of differences 0, +2, +2, +3, -2, +40 and -40 tokens in bands of ten."""
    names = sorted(set(NAMES) - set(TEST_NAMES))[:7]
    sizes = [(3, 3), (5, 3), (6, 4), (8, 5), (3, 5), (44, 4), (4, 44)]
    pairs = lengths_of(names, sizes)
    in_train = [p["split"] == "train" for p in pairs]
    kept = {}
    for how in ("off", "drop", "balance"):
        context = runs.context(how, pairs)
        config = runs.config({"max_steps": 1}, lengths={"how": how, "max_difference": 10})
        counts = STAGE.run(config, context)
        kept[how] = counts["train"]
        assert counts.get("rejects/length_difference", 0) == kept["off"] - counts["train"]
    near, far = in_train[:5], in_train[5:]
    assert kept["off"] == sum(in_train)
    assert kept["drop"] == sum(near)
    balanced = in_train[0] + 2 * min(sum(near[1:4]), near[4]) + 2 * min(far[0], far[1])
    assert kept["balance"] == balanced


def test_only_the_clearest_pairs_are_trained_on(runs: Folder) -> None:
    names = sorted(set(NAMES) - set(TEST_NAMES))[:6]
    pairs = [p for p in lengths_of(names, [(3, 4)] * 6) if p["split"] == "train"]
    context = runs.context("top", pairs)
    counts = STAGE.run(runs.config({"max_steps": 1, "batch_size": 9}, top={"count": 2}), context)
    assert counts["train"] == 2
    assert counts["rejects/not_among_the_clearest"] == len(pairs) - 2
    scored = read_rows(context.output / REFERENCE_LOGPS.file_name, REFERENCE_LOGPS)
    clearest = {p["pair_id"] for p in sorted(pairs, key=lambda p: -p["margin"])[:2]}
    assert {row["pair_id"] for row in scored} >= clearest
    other, context = runs.config(top={"count": 2, "by": "strength"}), runs.context("no", pairs)
    with pytest.raises(ConfigError, match="no training pair has a strength"):
        STAGE.run(other, context)
