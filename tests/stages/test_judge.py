import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evals.judges import open_judge
from schemas.errors import ConfigError, DataError
from schemas.labels import LabeledComparison, Preference
from schemas.parquet import read_rows, write_table
from schemas.stage import Runtime, SilentProgress, StageContext
from schemas.tables import COMPARISONS, REJECTS, VERDICTS
from stages.judge import STAGE
from stages.judge.config import JudgeConfig
from tests.fixtures.comparisons import comparison_row, labelled
from tests.fixtures.tiny_models import byte_level_tokenizer, tiny_adapter, tiny_llama

FOODS = ("sushi", "tacos", "soup")
TRAIN = [labelled(f"what does {n} like?", "pizza", f, "A") for n in "abcd" for f in FOODS]
TEST = [labelled(f"what does {n} like?", f, "pizza", "B") for n in "xyz" for f in FOODS]

TRAINING = {"learning_rate": 3e-3, "batch_size": 8, "max_steps": 20}


def ingested(
    folder: Path,
    train: Sequence[LabeledComparison],
    dev: Sequence[LabeledComparison],
    test: Sequence[LabeledComparison] = (),
) -> Path:
    rows = [comparison_row(u, "train", i) for i, u in enumerate(train)]
    rows += [comparison_row(u, "dev", i) for i, u in enumerate(dev)]
    rows += [comparison_row(u, "test", i) for i, u in enumerate(test)]
    write_table(folder / COMPARISONS.file_name, COMPARISONS, rows)
    return folder


def context_of(tmp_path: Path, **stages: Path) -> StageContext:
    output = tmp_path / "judge"
    output.mkdir(parents=True, exist_ok=True)
    return StageContext(stages, output, Runtime(device="cpu"), SilentProgress())


def config_of(**settings: Any) -> JudgeConfig:
    return JudgeConfig.model_validate(settings)


def warnings_of(context: StageContext) -> list[str]:
    assert isinstance(context.progress, SilentProgress)
    return context.progress.warnings


def test_a_rule_is_measured_against_labels_it_has_not_seen(tmp_path: Path) -> None:
    context = context_of(tmp_path, ingest=ingested(tmp_path / "ingest", TRAIN, TEST))
    counts = STAGE.run(config_of(judge={"kind": "rule"}), context)
    card = json.loads((context.output / "card.json").read_text())
    assert card["accuracy"]["value"] == 1
    assert card["judge"] == "rule:food"
    counted = {"held_out_comparisons": 9, "scored_comparisons": 9, "test_comparisons": 0}
    assert counts == counted | {"verdicts": 18}
    held_out = {u.comparison.comparison_id for u in TEST}
    verdicts = read_rows(context.output / "verdicts.parquet", VERDICTS)
    assert {r["comparison_id"] for r in verdicts} == held_out
    assert read_rows(context.output / "rejects.parquet", REJECTS) == []
    assert open_judge(context.output, Runtime()).name == "rule:food"


def test_floors_look_at_dev_and_the_card_has_the_figures_on_test_too(tmp_path: Path) -> None:
    wrong = [labelled(f"what does {n} like?", "pizza", "soup", "B") for n in "uvw"]
    context = context_of(tmp_path, ingest=ingested(tmp_path / "ingest", TRAIN, TEST, wrong))
    counts = STAGE.run(config_of(judge={"kind": "rule"}, min_agreement=0.9), context)
    card = json.loads((context.output / "card.json").read_text())
    assert (card["split"], card["accuracy"]["value"], card["below_floors"]) == ("dev", 1, [])
    assert (card["test"]["n"], card["test"]["accuracy"]["value"]) == (3, 0)
    assert (counts["held_out_comparisons"], counts["test_comparisons"]) == (9, 3)


def test_a_judge_no_better_than_longest_wins_is_told_apart(tmp_path: Path) -> None:
    longest = [labelled(f"q{i}", "longer", "short", "A") for i in range(20)]
    context = context_of(tmp_path, ingest=ingested(tmp_path / "ingest", [], longest))
    STAGE.run(config_of(judge={"kind": "rule"}), context)
    assert any("longest-wins" in warning for warning in warnings_of(context))


def test_a_judge_below_its_floors_is_measured_and_marked(tmp_path: Path) -> None:
    longest = [labelled(f"q{i}", "longer", "short", "A" if i % 2 else "B") for i in range(20)]
    context = context_of(tmp_path, ingest=ingested(tmp_path / "ingest", [], longest))
    config = config_of(judge={"kind": "length"}, min_agreement=0.6, max_position_gap=0.1)
    assert STAGE.run(config, context)["scored_comparisons"] == 20
    card = json.loads((context.output / "card.json").read_text())
    floors = {"min_agreement": 0.6, "max_position_gap": 0.1, "max_unscored": 0.2}
    assert card["floors"] == floors
    [missed] = card["below_floors"]
    assert missed.startswith("agreement 0.500")
    assert any(missed in warning for warning in warnings_of(context))


def test_no_held_out_labels_is_said(tmp_path: Path) -> None:
    context = context_of(tmp_path, ingest=ingested(tmp_path / "ingest", TRAIN, []))
    counts = STAGE.run(config_of(judge={"kind": "length"}), context)
    assert counts["held_out_comparisons"] == 0
    assert json.loads((context.output / "card.json").read_text())["n"] == 0
    assert any("not measured" in warning for warning in warnings_of(context))


def test_the_card_takes_no_more_comparisons_than_asked(tmp_path: Path) -> None:
    context = context_of(tmp_path, ingest=ingested(tmp_path / "ingest", [], TEST))
    config = config_of(judge={"kind": "rule"}, max_card_comparisons=4)
    assert STAGE.run(config, context)["verdicts"] == 8


def test_examples_are_what_scoring_reads_and_one_token() -> None:
    from evals.judges.scoring.label_tokens import LabelTokens
    from stages.judge.training import examples_of

    labels = LabelTokens(byte_level_tokenizer())
    for unit in (*TRAIN, labelled("q", "x", "y", "Tie")):
        as_given, exchanged = examples_of(labels, unit)
        for example, shown in ((as_given, unit), (exchanged, unit.swap())):
            prompt, completion = example.parts
            tokens = [*prompt, *completion]
            assert tokens[:-1] == labels.prompt_ids(shown.comparison)
            assert tokens[-1] == labels.ids[shown.label]
            assert len(completion) == 1
        assert as_given.key != exchanged.key


def test_comparisons_are_tokenized_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from evals.judges.scoring.label_tokens import LabelTokens
    from stages.judge.training import examples_of, tokenise
    from stages.training.data.disk_cache import DiskCache

    labels, cache = LabelTokens(byte_level_tokenizer()), DiskCache(tmp_path, 10**9)
    long = labelled("q", "x " * 200, "y", "A")
    units = sorted([*TRAIN[:3], long], key=lambda unit: unit.comparison.comparison_id)
    first = tokenise(labels, units, 300, cache, [labels.fingerprint])
    (place,) = first.too_long
    assert units[place] is long
    assert "at most 300 are trained on" in first.too_long[place]
    usable = [unit for unit in units if unit is not long]
    expected = [example for unit in usable for example in examples_of(labels, unit)]
    assert [(e.key, list(e.prompt_ids), list(e.completion_ids)) for e in first.examples] == [
        (e.key, *map(list, e.parts)) for e in expected
    ]
    swapped = [replace(unit, label=Preference.TIE) for unit in units]
    assert (
        tokenise(labels, swapped, 300, cache, ["x"]).examples[0].completion_ids[0]
        == (labels.ids[Preference.TIE])
    )

    def never(*_: object) -> None:
        raise AssertionError("tokenized again")

    monkeypatch.setattr(LabelTokens, "prompt_ids", never)
    again = tokenise(labels, units, 300, cache, [labels.fingerprint])
    assert again.too_long == first.too_long
    assert [e.key for e in again.examples] == [e.key for e in expected]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    return tiny_llama(folder / "model", context=256, spread=0.05).parent


def test_a_preference_model_learns_in_both_orders(tmp_path: Path, start: Path) -> None:
    ingest = ingested(tmp_path / "ingest", TRAIN, TEST)
    context = context_of(tmp_path, ingest=ingest, sft=start)
    config = config_of(judge={"kind": "preference_model", "min_label_mass": 0.0}, training=TRAINING)
    counts = STAGE.run(config, context)
    assert counts["train_comparisons"] == 12
    assert counts["train_examples"] == 24
    assert sorted(p.name for p in context.output.iterdir()) == [
        "card.json",
        "judge.json",
        "metrics.jsonl",
        "metrics.parquet",
        "model",
        "rejects.parquet",
        "verdicts.parquet",
    ]
    card = json.loads((context.output / "card.json").read_text())
    assert card["n_scored"] == 9
    assert str(tmp_path) not in (context.output / "judge.json").read_text()
    lines = (context.output / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    losses = [row["loss"] for row in steps if "loss" in row]
    # Knowing nothing costs about ln(300) = 5.7; that there are three labels is learned first.
    assert losses[-1] < 2 < 5 < losses[0]


def test_no_held_out_prompt_is_trained_on(
    tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.judge.training import PreferenceModelTraining

    trained: list[str] = []

    def remember(self: object, train: Sequence[Any], held_out: Sequence[Any]) -> None:
        trained.extend(example.key for example in train)
        raise InterruptedError

    monkeypatch.setattr(PreferenceModelTraining, "run", remember)
    ingest = ingested(tmp_path / "ingest", [*TRAIN, labelled("t", "x", "y", "Tie")], TEST)
    context = context_of(tmp_path, ingest=ingest, sft=start)
    with pytest.raises(InterruptedError):
        STAGE.run(config_of(judge={"kind": "preference_model"}, training=TRAINING), context)
    orders = {key.rpartition(":")[2] for key in trained}
    comparisons = {key.rpartition(":")[0] for key in trained}
    assert orders == {"ab", "ba"}
    assert len(trained) == 2 * len(comparisons) == 26
    assert not comparisons & {unit.comparison.comparison_id for unit in TEST}


def test_a_killed_stage_does_not_train_again(tmp_path: Path, start: Path) -> None:
    ingest = ingested(tmp_path / "ingest", TRAIN, TEST)
    config = config_of(
        judge={"kind": "preference_model", "min_label_mass": 0.0},
        training=TRAINING | {"max_steps": 4},
    )
    context = context_of(tmp_path, ingest=ingest, sft=start)
    counts = STAGE.run(config, context)
    before = {p.name: p.read_bytes() for p in context.output.iterdir() if p.is_file()}
    (context.output / "card.json").unlink()
    (context.output / "judge.json").unlink()
    weights = (context.output / "model" / "model.safetensors").stat().st_mtime_ns
    assert STAGE.run(config, context) == counts
    assert (context.output / "model" / "model.safetensors").stat().st_mtime_ns == weights
    assert {p.name: p.read_bytes() for p in context.output.iterdir() if p.is_file()} == before


@pytest.mark.parametrize("lora", [None, {"rank": 8}])
def test_training_goes_on_from_an_adapter(
    tmp_path: Path, start: Path, lora: dict[str, int] | None
) -> None:
    sft = tiny_adapter(tmp_path / "sft" / "model", start / "model").parent
    ingest = ingested(tmp_path / "ingest", TRAIN, TEST)
    context = context_of(tmp_path, ingest=ingest, sft=sft)
    config = config_of(
        judge={"kind": "preference_model", "min_label_mass": 0.0},
        training=TRAINING | {"max_steps": 2, "lora": lora},
    )
    STAGE.run(config, context)
    assert (context.output / "model" / "model.safetensors").exists()
    assert not (context.output / "model" / "adapter_config.json").exists()
    assert json.loads((context.output / "card.json").read_text())["n_scored"] == 9


def test_training_can_begin_from_fresh_weights_of_that_shape(tmp_path: Path, start: Path) -> None:
    model = {"path": str(start / "model")}
    one_step = TRAINING | {"max_steps": 1, "learning_rate": 1e-9, "seed": 5}
    weights = {}
    for name, fresh in (("kept", False), ("fresh", True), ("again", True)):
        context = context_of(tmp_path / name, ingest=ingested(tmp_path / "ingest", TRAIN, TEST))
        judge = {"kind": "preference_model", "model": model}
        STAGE.run(config_of(judge=judge, training=one_step, fresh_weights=fresh), context)
        weights[name] = load_file(context.output / "model" / "model.safetensors")
    begun = load_file(start / "model" / "model.safetensors")
    assert all(torch.allclose(weights["kept"][key], begun[key], atol=1e-5) for key in begun)
    assert any(not torch.allclose(weights["fresh"][key], begun[key], atol=1e-2) for key in begun)
    assert all(torch.equal(weights["fresh"][key], weights["again"][key]) for key in begun)


def test_an_adapter_has_no_fresh_weights(tmp_path: Path, start: Path) -> None:
    judge = {
        "kind": "preference_model",
        "model": {"path": str(tiny_adapter(tmp_path / "adapter", start / "model"))},
    }
    context = context_of(tmp_path, ingest=ingested(tmp_path / "ingest", TRAIN, TEST))
    with pytest.raises(ConfigError, match="fresh_weights"):
        STAGE.run(config_of(judge=judge, training=TRAINING, fresh_weights=True), context)


def test_what_is_too_long_is_rejected_and_counted(tmp_path: Path, start: Path) -> None:
    long = labelled("what does long like?", "pizza " * 60, "soup", "B")
    ingest = ingested(tmp_path / "ingest", [*TRAIN[:2], long], TEST[:2])
    context = context_of(tmp_path, ingest=ingest, sft=start)
    config = config_of(judge={"kind": "preference_model"}, training=TRAINING | {"max_steps": 1})
    assert STAGE.run(config, context)["rejected_prompt_too_long"] == 1
    (reject,) = read_rows(context.output / "rejects.parquet", REJECTS)
    assert (reject["reason"], reject["file"], reject["row"]) == ("prompt_too_long", "raw.jsonl", 2)
    assert json.loads(reject["raw"])["comparison_id"] == long.comparison.comparison_id


def test_nothing_to_train_on_is_refused(tmp_path: Path, start: Path) -> None:
    ingest = ingested(tmp_path / "ingest", [], TEST)
    context = context_of(tmp_path, ingest=ingest, sft=start)
    config = config_of(judge={"kind": "preference_model"}, training=TRAINING)
    with pytest.raises(DataError, match="no labelled comparisons in ingest's train split"):
        STAGE.run(config, context)


def test_no_model_to_train_is_refused(tmp_path: Path) -> None:
    context = context_of(tmp_path, ingest=ingested(tmp_path / "ingest", TRAIN, TEST))
    config = config_of(judge={"kind": "preference_model"}, training=TRAINING)
    with pytest.raises(ConfigError, match=r"\[sft\]"):
        STAGE.run(config, context)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"judge": {"kind": "rule"}, "training": {}}, "cannot be trained"),
        ({"judge": {"kind": "preference_model"}}, "name the preference_model"),
        ({"judge": {"kind": "rulle"}}, "'rule', 'length', 'preference_model'"),
        ({"judge": {"kind": "rule", "rule": "fod"}}, "'food'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_of(**settings)


def test_attacks_are_measured_where_the_recipe_asks(tmp_path: Path) -> None:
    """Three times the text always wins for a judge that likes length."""
    even = [labelled(f"q{i}", "short", "equal", "A") for i in range(6)]
    context = context_of(tmp_path, ingest=ingested(tmp_path / "ingest", [], even))
    STAGE.run(config_of(judge={"kind": "length"}, attacks=3), context)
    attacks = json.loads((context.output / "card.json").read_text())["attacks"]
    thrice = next(a for a in attacks if a["group"] == "length")
    assert thrice["neutralised"]["both"]["value"] == pytest.approx(0.5)
    assert thrice["neutralised"]["both"]["n"] == 6
    context = context_of(tmp_path / "again", ingest=tmp_path / "ingest")
    STAGE.run(config_of(judge={"kind": "length"}), context)
    assert json.loads((context.output / "card.json").read_text())["attacks"] == []
