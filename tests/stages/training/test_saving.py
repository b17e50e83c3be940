"""What training publishes: the weights that were measured, in files that open as the start's do."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from evals.models.checkpoints import ModelSource, load_causal_lm, load_tokenizer
from schemas.errors import BackendError, ConfigError
from stages.training.checkpoints.adapters import add_lora, fold_adapter, trainable_start
from stages.training.checkpoints.read_back import HeldOutLoss, publish_whole, read_back
from stages.training.checkpoints.saving import ModelSaver
from stages.training.config import LoraConfig
from stages.training.objectives.preference import PairExample
from tests.fixtures.tiny_models import byte_level_tokenizer, tiny_adapter

PAIR = PairExample("p", [5, 6, 7], [8, 9, 10, 11], [12, 13])
LOSS = HeldOutLoss(PAIR)
CPU = torch.device("cpu")


def start_folder(folder: Path, dtype: torch.dtype = torch.float32, **config: Any) -> Path:
    tokenizer = byte_level_tokenizer()
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "initializer_range": 0.3,
        "tie_word_embeddings": True,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(**{**shape, **config})).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def changed(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    found = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({k: v for k, v in (found | values).items() if v is not None}))


def opened(folder: Path) -> tuple[Any, ModelSaver]:
    source = ModelSource(path=str(folder))
    return load_causal_lm(source, CPU), ModelSaver(source, load_tokenizer(source))


@pytest.mark.parametrize("modules", [("q_proj", "lm_head"), ("q_proj", "embed_tokens")])
def test_lora_on_tied_embeddings_is_folded_into_what_was_measured(
    tmp_path: Path, modules: tuple[str, ...]
) -> None:
    model, saver = opened(start_folder(tmp_path / "start"))
    adapted = add_lora(model, LoraConfig(rank=2, target_modules=modules), seed=0)
    before = LOSS.measure(adapted)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    trained = LOSS.measure(adapted)
    assert abs(trained - before) > 0.01
    publish_whole(adapted, saver, LOSS, tmp_path / "model")
    again = load_causal_lm(ModelSource(path=str(tmp_path / "model")), CPU)
    assert LOSS.measure(again) == pytest.approx(trained, abs=1e-5)
    assert not again.config.tie_word_embeddings
    assert again.get_input_embeddings().weight is not again.get_output_embeddings().weight


def test_a_tie_that_no_adapter_touches_stays(tmp_path: Path) -> None:
    model, saver = opened(start_folder(tmp_path / "start"))
    adapted = add_lora(model, LoraConfig(rank=2, target_modules=("q_proj",)), seed=0)
    publish_whole(adapted, saver, LOSS, tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["tie_word_embeddings"]


def test_weights_that_are_not_those_measured_are_not_published(tmp_path: Path) -> None:
    model, saver = opened(start_folder(tmp_path / "start"))
    saver.save(model, tmp_path / "model")
    measured = LOSS.measure(model)
    found = read_back(tmp_path / "model", LOSS, measured, CPU, torch.float32)
    assert found["saved"] == pytest.approx(found["trained"], abs=1e-6)
    with pytest.raises(BackendError, match="not what was measured"):
        read_back(tmp_path / "model", LOSS, measured + 0.1, CPU, torch.float32)


def test_a_generation_config_that_transformers_refuses_to_write_goes_through(
    tmp_path: Path,
) -> None:
    start = start_folder(tmp_path / "start")
    refused = {"temperature": 0.6, "top_p": 0.9, "do_sample": False}
    changed(start, "generation_config.json", **refused)
    model, saver = opened(start)
    saver.try_out(model)
    saver.save(model, tmp_path / "model")
    name = "generation_config.json"
    saved = json.loads((tmp_path / "model" / name).read_bytes())
    assert {key: saved[key] for key in refused} == refused
    ends = load_tokenizer(ModelSource(path=str(start))).convert_ids_to_tokens(saved["eos_token_id"])
    assert set(ends) == {"<|im_end|>", "<|endoftext|>"}
    again, saver = opened(tmp_path / "model")  # which knows its stops: its file goes through as is
    saver.save(again, tmp_path / "again")
    assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


def test_what_could_not_be_saved_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, saver = opened(start_folder(tmp_path / "start"))

    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("no such key\nand more")

    monkeypatch.setattr(type(model.config), "save_pretrained", refuse)
    with pytest.raises(ConfigError, match=r"could not be saved \(no such key\)"):
        saver.try_out(model)


def test_config_and_tokenizer_open_where_the_start_opened(tmp_path: Path) -> None:
    """As transformers 4 wrote them: rope_theta at the top, tokenizer class by its old name."""
    start = start_folder(tmp_path / "start", rope_parameters={"rope_theta": 5e5})
    older = {"rope_parameters": None, "dtype": None, "rope_theta": 5e5, "torch_dtype": "float32"}
    changed(start, "config.json", own_key="kept", **older)
    changed(start, "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", backend=None)
    model, saver = opened(start)
    saver.save(model, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 5e5
    assert config["own_key"] == "kept"
    assert config["torch_dtype"] == "float32"
    name = "tokenizer_config.json"
    assert (tmp_path / "model" / name).read_bytes() == (start / name).read_bytes()
    again = load_causal_lm(ModelSource(path=str(tmp_path / "model")), CPU)
    assert LOSS.measure(again) == LOSS.measure(model)


def test_a_tokenizer_from_scratch_has_names_that_older_readers_know(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    model, _ = opened(start_folder(tmp_path / "start"))
    ModelSaver(None, tokenizer).save(model, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert isinstance(config["additional_special_tokens"], list)
    again = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.chat_template == tokenizer.chat_template
    assert set(again.all_special_tokens) == set(tokenizer.all_special_tokens)


def test_a_template_that_is_named_is_saved(tmp_path: Path) -> None:
    start = start_folder(tmp_path / "start")
    source = ModelSource(path=str(start), chat_template="role_colon")
    tokenizer = load_tokenizer(source)
    model = load_causal_lm(source, CPU)
    ModelSaver(source, tokenizer).save(model, tmp_path / "model")
    again = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert again.chat_template == tokenizer.chat_template


@pytest.mark.parametrize(
    ("start", "setting", "saved"),
    [
        (torch.bfloat16, "start", "BF16"),
        (torch.bfloat16, "float32", "F32"),
        (torch.float32, "start", "F32"),
        (torch.float16, "start", "F16"),
    ],
)
def test_weights_have_the_starts_type(
    tmp_path: Path, start: torch.dtype, setting: Any, saved: str
) -> None:
    source = ModelSource(path=str(start_folder(tmp_path / "start", start)))
    model = load_causal_lm(source, CPU)
    assert model.dtype == torch.float32
    ModelSaver(source, load_tokenizer(source), setting).save(model, tmp_path / "model")
    with safe_open(tmp_path / "model" / "model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {saved}  # noqa: SIM118
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118
    again = load_causal_lm(ModelSource(path=str(tmp_path / "model")), CPU)
    assert LOSS.measure(again) == pytest.approx(LOSS.measure(model), abs=1e-6)


def test_more_embeddings_than_tokens_and_shards_go_through(tmp_path: Path) -> None:
    start = start_folder(tmp_path / "start", vocab_size=320, num_hidden_layers=3)
    model, _ = opened(start)
    (start / "model.safetensors").unlink()
    model.save_pretrained(start, max_shard_size="40KB")
    assert (start / "model.safetensors.index.json").exists()
    model, saver = opened(start)
    saver.save(model, tmp_path / "model")
    again = load_causal_lm(ModelSource(path=str(tmp_path / "model")), CPU)
    assert again.get_input_embeddings().weight.shape[0] == 320
    assert LOSS.measure(again) == LOSS.measure(model)


def test_modules_that_an_adapter_saves_whole_are_folded_in(tmp_path: Path) -> None:
    import peft

    model, saver = opened(start_folder(tmp_path / "start"))
    settings = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = peft.get_peft_model(model, settings)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            torch.nn.init.normal_(weight, std=0.2)
    trained = LOSS.measure(adapted)
    publish_whole(adapted, saver, LOSS, tmp_path / "model")
    again = load_causal_lm(ModelSource(path=str(tmp_path / "model")), CPU)
    assert LOSS.measure(again) == pytest.approx(trained, abs=1e-5)


def test_an_adapter_goes_on_or_a_new_one_is_put_on_its_merged_base(tmp_path: Path) -> None:
    start = start_folder(tmp_path / "start")
    adapter = tiny_adapter(tmp_path / "adapter", start, rank=4)
    there = LOSS.measure(opened(adapter)[0])
    assert abs(there - LOSS.measure(opened(start)[0])) > 0.01

    going_on = trainable_start(opened(adapter)[0], LoraConfig(rank=4), "adapter", 0)
    assert LOSS.measure(going_on) == there
    learning = {n for n, p in going_on.named_parameters() if p.requires_grad}
    assert learning
    assert all("lora_" in name for name in learning)

    new = trainable_start(opened(adapter)[0], LoraConfig(rank=2, start="new"), "adapter", 0)
    assert LOSS.measure(new) == pytest.approx(there, abs=1e-5)
    with new.disable_adapter():
        assert LOSS.measure(new) == pytest.approx(there, abs=1e-5)

    with pytest.raises(ConfigError, match=r"has rank 4, and training.lora.rank is 8"):
        trainable_start(opened(adapter)[0], LoraConfig(rank=8), "adapter", 0)
    folded = trainable_start(opened(adapter)[0], None, "adapter", 0)
    assert not hasattr(folded, "peft_config") or not hasattr(folded, "merge_and_unload")
    assert all(p.requires_grad for p in folded.parameters())
    assert LOSS.measure(fold_adapter(folded)) == pytest.approx(there, abs=1e-5)


def test_several_target_modules_are_a_list() -> None:
    with pytest.raises(ValueError, match=r'a list: \["q_proj", "v_proj"\]'):
        LoraConfig(target_modules="q_proj,v_proj")


def test_an_adapter_on_four_bits_is_published_whole_as_it_was_trained(tmp_path: Path) -> None:
    """Folded into what the 4-bit weights stand for, not rounded to 4 bits again."""
    pytest.importorskip("bitsandbytes")
    source = ModelSource(path=str(start_folder(tmp_path / "start", hidden_size=64)))
    model = add_lora(load_causal_lm(source, CPU, "nf4"), LoraConfig(rank=4, alpha=64), seed=0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    before = LOSS.measure(model)
    saver = ModelSaver(source, load_tokenizer(source))
    saver.try_out(model)
    publish_whole(model, saver, LOSS, tmp_path / "model")
    published = ModelSource(path=str(tmp_path / "model"))
    assert LOSS.measure(load_causal_lm(published, CPU)) == pytest.approx(before, abs=1e-4)
    assert "quantization_config" not in json.loads((tmp_path / "model/config.json").read_text())


def test_nothing_is_merged_into_four_bits_that_stay(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    base = start_folder(tmp_path / "base", hidden_size=64)
    adapter = ModelSource(path=str(tiny_adapter(tmp_path / "adapter", base)))
    model = load_causal_lm(adapter, CPU, "nf4")
    with pytest.raises(ConfigError, match="cannot be merged into weights that stay in 4 bits"):
        trainable_start(model, LoraConfig(start="new"), "here", 0)
