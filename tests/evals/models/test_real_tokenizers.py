"""Conversations through real tokenizers, as far as packages that are installed ship them."""

import json
import shutil
from collections.abc import Callable
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.integrations.mistral import convert_tekken_tokenizer

from evals.models.chat.checks import findings
from evals.models.chat.renderer import ChatRenderer
from tests.evals.models.test_chat_conformance import CASES, KINDS, check

INSTRUCT = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST]SPACE{{ m.content }}"
    "[/INST]{% elif m.role == 'assistant' %}SPACE{{ m.content }}{{ eos_token }}{% else %}"
    "{{ raise_exception('no such role') }}{% endif %}{% endfor %}"
)
SPOKEN = [
    "There.",
    "  two spaces, then   three",
    "def f(x):\n    return x\n\n\tif y:\n        pass",
    "\u00e9 \u65e5\u672c\u8a9e \U0001f35e\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "a [bracket] and </b>",
]


def shipped(package: str, *places: str) -> Path:
    """A file of an installed package, which is not imported; the test is skipped without it."""
    spec = find_spec(package)
    found = Path(str(spec.origin)).parent.joinpath(*places) if spec and spec.origin else None
    if found is None or not found.exists():
        pytest.skip(f"{package} is not installed, which ships this tokenizer")
    return found


def sentence_piece_of_mistral(folder: Path) -> Any:
    pytest.importorskip("sentencepiece")
    name = "mistral_instruct_tokenizer_240323.model.v3"
    shutil.copy(shipped("mistral_common", "data", name), folder / "tokenizer.model")
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    settings = json.dumps({"tokenizer_class": "LlamaTokenizer", **named})
    (folder / "tokenizer_config.json").write_text(settings)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = INSTRUCT.replace("SPACE", " ")
    return tokenizer


def tekken_of_mistral(folder: Path) -> Any:
    file = shipped("mistral_common", "data", "tekken_240718.json")
    tokenizer = convert_tekken_tokenizer(str(file))
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    tokenizer.chat_template = INSTRUCT.replace("SPACE", "")
    return tokenizer


def ranks_of_qwen(folder: Path) -> Any:
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    words = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    backend = TikTokenConverter(
        vocab_file=str(shipped("dashscope", "resources", "qwen.tiktoken")),
        pattern=words,
        extra_special_tokens=marks,
    ).converted()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = KINDS["opens a thought, has an argument of its own name"]
    return tokenizer


@pytest.mark.parametrize("made", [sentence_piece_of_mistral, tekken_of_mistral, ranks_of_qwen])
def test_conversations_come_back_from_a_real_tokenizer(
    made: Callable[[Path], Any], tmp_path: Path
) -> None:
    renderer = ChatRenderer(made(tmp_path), today=date(2026, 1, 1))
    for messages in CASES.values():
        check(renderer, messages)
    for text in SPOKEN:
        asked = {"role": "user", "content": text}
        check(renderer, [asked, {"role": "assistant", "content": text}])
    assert not [found for found in findings(renderer) if found.severity == "wrong"]
