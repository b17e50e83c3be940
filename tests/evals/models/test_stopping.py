"""Checkpoints end a turn where their chat template does, for every program, without being told."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evals.models.checkpoints import ModelSource, load_causal_lm, load_tokenizer
from stages.training.checkpoints.adapters import add_lora, fold_adapter
from stages.training.checkpoints.saving import ModelSaver
from stages.training.config import LoraConfig
from tests.fixtures.tiny_models import TURN_END, chain_llama
from tests.fixtures.vllm_server import transformers_server, vllm_server

CPU = torch.device("cpu")
ASKED = [{"role": "user", "content": "q"}]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes "y", ends its turn, and would go on with "z" for ever; it knows its eos alone."""
    folder = tmp_path_factory.mktemp("chain") / "start"
    chain_llama(folder, {"y": TURN_END, TURN_END: "z", "z": "z"}, otherwise="y")
    assert "<|im_end|>" not in (folder / "generation_config.json").read_text()
    return folder


def whole(model: Any) -> Any:
    return model


def adapted(model: Any) -> Any:
    return add_lora(model, LoraConfig(rank=2), seed=0)


def merged(model: Any) -> Any:
    return fold_adapter(adapted(model))


def written(start: Path, folder: Path, made: Callable[[Any], Any]) -> Path:
    source = ModelSource(path=str(start))
    saver = ModelSaver(source, load_tokenizer(source))
    saver.save(made(load_causal_lm(source, CPU)), folder)
    return folder


def generated(model: Any, tokenizer: Any) -> str:
    prompt = tokenizer.apply_chat_template(ASKED, add_generation_prompt=True, return_tensors="pt")
    ids = prompt["input_ids"]
    made = model.generate(ids, max_new_tokens=8, do_sample=False)
    return str(tokenizer.decode(made[0, ids.shape[1] :]))


def test_the_start_itself_does_not_stop(start: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(start)
    assert generated(model, AutoTokenizer.from_pretrained(start)) == f"y{TURN_END}zzzzzz"


@pytest.mark.parametrize("made", [whole, merged])
def test_generate_stops_by_the_saved_config_alone(
    start: Path, tmp_path: Path, made: Callable[[Any], Any]
) -> None:
    folder = written(start, tmp_path / "model", made)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert generated(model, tokenizer) == f"y{TURN_END}"


def test_an_adapter_says_where_turns_end_too(start: Path, tmp_path: Path) -> None:
    folder = written(start, tmp_path / "model", adapted)
    said = json.loads((folder / "generation_config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_tokens_to_ids(TURN_END) in said["eos_token_id"]


def answered(url: str, model: Path) -> dict[str, Any]:
    body = {"model": str(model), "messages": ASKED, "max_tokens": 8, "temperature": 0}
    request = urllib.request.Request(
        f"{url}/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": "Bearer k"},
    )
    with urllib.request.urlopen(request, timeout=300) as reply:
        choice: dict[str, Any] = json.loads(reply.read())["choices"][0]
    return choice


@pytest.mark.vllm
def test_vllm_stops_by_the_saved_config_alone(start: Path, tmp_path: Path) -> None:
    folder = written(start, tmp_path / "model", merged)
    with vllm_server(folder, tmp_path / "log", "k") as url:
        choice = answered(url, folder)
    assert choice["message"]["content"] == "y"
    assert choice["finish_reason"] == "stop"


def test_transformers_serve_stops_by_the_saved_config_alone(start: Path, tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    folder = written(start, tmp_path / "model", merged)
    with transformers_server(folder, tmp_path / "log") as url:
        choice = answered(url, folder)
    assert choice["message"]["content"] == "y"
    assert choice["finish_reason"] == "stop"
