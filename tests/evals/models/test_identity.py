"""A model is what its bytes are, wherever it lies, and what is not whole is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evals.models.adapters import ADAPTER_CONFIG, record_base
from evals.models.checkpoints import (
    ModelSource,
    load_causal_lm,
    load_tokenizer,
    model_fingerprint,
)
from evals.models.hub import commit_of, forget_pins, pin, pins
from schemas.errors import DataError, MissingInputError, PipelineError
from stages.training.checkpoints.adapters import add_lora
from stages.training.checkpoints.saving import ModelSaver
from stages.training.config import LoraConfig
from tests.fixtures.local_hub import LocalHub
from tests.fixtures.tiny_models import tiny_llama

CPU = torch.device("cpu")
WEIGHTS = "model.safetensors"


def source(folder: Path) -> ModelSource:
    return ModelSource(path=str(folder))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a base, `sft/model`, and an adapter on it, `train/model`."""
    run = tmp_path_factory.mktemp("made") / "run"
    base = tiny_llama(run / "sft" / "model", hidden_size=32, layers=1)
    model = load_causal_lm(source(base), CPU)
    adapted = add_lora(model, LoraConfig(rank=2), 0)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(1))
    folder = run / "train" / "model"
    ModelSaver(source(base), load_tokenizer(source(base))).save(adapted, folder)
    record_base(folder, str(base), None, model_fingerprint(source(base)), [run / "sft"])
    return run


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def logits(folder: Path) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = load_causal_lm(source(folder), CPU)(torch.tensor([[1, 2, 3]])).logits
    return found


def change(path: Path, changed: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(path)
    changed(weights)
    save_file(weights, path, {"format": "pt"})


def test_an_adapter_moves_with_its_run(run: Path, made: Path, tmp_path: Path) -> None:
    adapter = run / "train" / "model"
    assert str(made) not in (adapter / ADAPTER_CONFIG).read_text()
    before, name = logits(adapter), model_fingerprint(source(adapter))
    shutil.move(run, tmp_path / "elsewhere" / "run")
    moved = tmp_path / "elsewhere" / "run" / "train" / "model"
    assert torch.equal(logits(moved), before)
    assert model_fingerprint(source(moved)) == name
    kept = moved.parent / "checkpoints" / "step-3"
    shutil.copytree(moved, kept)
    assert model_fingerprint(source(kept)) == name


def test_an_adapter_is_another_on_another_base_and_says_so(run: Path) -> None:
    adapter, base = run / "train" / "model", run / "sft" / "model"
    files = {path.parent for path in source(adapter).files()}
    assert files == {adapter, base}
    change(base / WEIGHTS, lambda weights: weights["model.norm.weight"].add_(1))
    for ask in (model_fingerprint, lambda it: load_causal_lm(it, CPU), lambda it: it.files()):
        with pytest.raises(DataError, match="other weights than the adapter was trained on"):
            ask(source(adapter))
    (adapter / "base_model.json").unlink()  # as somebody else's adapter
    other = model_fingerprint(source(adapter))
    change(base / WEIGHTS, lambda weights: weights["model.norm.weight"].add_(1))
    assert model_fingerprint(source(adapter)) != other


def test_an_adapter_without_its_base_is_told_so(run: Path) -> None:
    shutil.rmtree(run / "sft")
    with pytest.raises(MissingInputError, match="its base model sft/model is not there"):
        load_causal_lm(source(run / "train" / "model"), CPU)


@pytest.mark.parametrize("name", ["../../sft/model", "/nowhere/model", "", 3, None])
def test_no_base_is_looked_for_by_a_way_out_of_the_run(run: Path, name: Any) -> None:
    path = run / "train" / "model" / ADAPTER_CONFIG
    config = json.loads(path.read_text()) | {"base_model_name_or_path": name}
    path.write_text(json.dumps(config))
    with pytest.raises(PipelineError, match=ADAPTER_CONFIG):
        model_fingerprint(source(run / "train" / "model"))


def drop(key: str) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda weights: weights.pop(key)


def set_config(**values: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return edit


def in_weights(changed: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    return lambda folder: change(folder / WEIGHTS, changed)


def rename_all(weights: dict[str, torch.Tensor]) -> None:
    for key in list(weights):
        weights[f"other.{key}"] = weights.pop(key)


NORM = "model.norm.weight"
DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (in_weights(drop(NORM)), f"has no weights for {NORM}"),
    "renamed": (in_weights(rename_all), "has no weights for .* more"),
    "more layers": (set_config(num_hidden_layers=2), r"has no weights for model\.layers\.1"),
    "fewer layers": (set_config(num_hidden_layers=0), "no place for: model.layers.0"),
    "another shape": (set_config(intermediate_size=32), "cannot be loaded|another shape"),
    "another kind": (set_config(model_type="gpt2"), "cannot be loaded|has no weights for"),
    "unknown kind": (set_config(model_type="nobody"), "cannot be loaded"),
    "not a number": (
        in_weights(lambda weights: weights[NORM].fill_(float("nan"))),
        f"{NORM} holds numbers that are not finite",
    ),
    "infinite": (
        in_weights(lambda weights: weights[NORM][3:4].fill_(float("inf"))),
        f"{NORM} holds numbers that are not finite",
    ),
    "quantised, as nothing says": (
        in_weights(lambda weights: weights.update({NORM: weights[NORM].to(torch.int8)})),
        f"whole numbers, and config.json names no quantization, for {NORM}",
    ),
    "cut": (
        lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-9]),
        "cannot be loaded",
    ),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "cannot be loaded"),
    "no JSON": (lambda folder: (folder / "config.json").write_text("{"), "cannot be loaded"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_model_that_is_not_whole_is_refused_in_one_line(run: Path, damage: str) -> None:
    spoil, said = DAMAGES[damage]
    folder = run / "sft" / "model"
    spoil(folder)
    with pytest.raises(PipelineError, match=said) as refused:
        load_causal_lm(source(folder), CPU)
    assert len(str(refused.value).splitlines()) == 1
    assert str(folder) in str(refused.value)


def test_an_adapter_that_matches_nothing_is_refused(run: Path) -> None:
    folder = run / "train" / "model"
    change(folder / "adapter_model.safetensors", rename_all)
    with pytest.raises(PipelineError, match="no weight of the adapter belongs to a module"):
        load_causal_lm(source(folder), CPU)


def test_an_adapter_that_lacks_weights_is_refused(run: Path) -> None:
    folder = run / "train" / "model"
    change(folder / "adapter_model.safetensors", lambda weights: weights.popitem())
    with pytest.raises(PipelineError, match="has no weights for"):
        load_causal_lm(source(folder), CPU)


def test_a_model_of_a_hub_stays_the_commit_that_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = LocalHub(tmp_path / "hub", monkeypatch)
    first, second = (
        hub.put("some/model", tiny_llama(tmp_path / str(seed), hidden_size=32, layers=1, seed=seed))
        for seed in (0, 1)
    )
    model = ModelSource(path="some/model")
    with_main = {"some/model@main": first}
    pin(with_main)
    assert pins() == with_main
    assert commit_of("some/model", None) == model.commit == first
    old = model_fingerprint(model)
    kept = load_causal_lm(model, CPU).state_dict()[NORM]
    forget_pins()
    assert (model.commit, model_fingerprint(model) != old) == (second, True)
    pinned = ModelSource(path="some/model", revision=first)
    assert torch.equal(load_causal_lm(pinned, CPU).state_dict()[NORM], kept)
    forget_pins()


def test_an_adapter_on_a_model_of_a_hub_opens_on_the_commit_that_it_was_trained_on(
    run: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, adapter = LocalHub(tmp_path / "hub", monkeypatch), run / "train" / "model"
    expected = logits(adapter)
    first = hub.put("some/model", run / "sft" / "model")
    base = ModelSource(path="some/model", revision=first)
    record_base(adapter, base.path, base.commit, model_fingerprint(base), [run / "sft"])
    hub.put("some/model", tiny_llama(tmp_path / "next", hidden_size=32, layers=1, seed=5))
    assert source(adapter).base == base
    assert torch.equal(logits(adapter), expected)
    config = json.loads((adapter / ADAPTER_CONFIG).read_text())
    (adapter / ADAPTER_CONFIG).write_text(json.dumps(config | {"revision": "0" * 40}))
    with pytest.raises(MissingInputError, match="its base model some/model is not there"):
        model_fingerprint(source(adapter))
    (adapter / "base_model.json").unlink()  # as somebody else's adapter, on a model like gpt2
    config |= {"base_model_name_or_path": "plain", "revision": None}
    (adapter / ADAPTER_CONFIG).write_text(json.dumps(config))
    hub.put("plain", run / "sft" / "model")
    assert source(adapter).base == ModelSource(path="plain")
    forget_pins()
