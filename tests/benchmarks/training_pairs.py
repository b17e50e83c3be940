"""What the benchmarks of training share: real pairs, a tokenizer, a model, and how to print."""

import gzip
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
PAIRS_PER_STEP, BPE_WORDS, PAD, END = 8, 32_000, 0, 1


def real_data() -> Path:
    """The folder of real data sets: as it is named, beside the checkout, or in it."""
    beside, inside = ROOT.parent / "shared" / "data", ROOT / "shared" / "data"
    return Path(os.environ.get("PREFLINE_REAL_DATA", beside if beside.is_dir() else inside))


def hh_rows() -> list[dict[str, str]]:
    """Prompt, chosen and rejected texts of HH, split at the last assistant turn."""
    path = real_data() / "hh-rlhf" / "harmless-base-test.jsonl.gz"
    if not path.exists():
        show(f"{path} is not there: set PREFLINE_REAL_DATA to the folder that holds hh-rlhf/")
        sys.exit(2)
    rows = []
    marker = "\n\nAssistant:"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            pair = json.loads(line)
            prompt, _, chosen = pair["chosen"].rpartition(marker)
            other, _, rejected = pair["rejected"].rpartition(marker)
            if prompt == other and chosen.strip() and rejected.strip() and chosen != rejected:
                rows.append({"prompt": prompt + marker, "chosen": chosen, "rejected": rejected})
    return rows


def make_tokenizer(folder: Path) -> None:
    """Train and save a byte-level BPE tokenizer on all texts."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    backend = ByteLevelBPETokenizer()
    texts = (text for row in hh_rows() for text in row.values())
    special = ["<|pad|>", "<|end|>"]
    backend.train_from_iterator(
        texts, BPE_WORDS, special_tokens=special, show_progress=False, min_frequency=1
    )
    PreTrainedTokenizerFast(
        tokenizer_object=backend._tokenizer, pad_token="<|pad|>", eos_token="<|end|>"
    ).save_pretrained(folder)


def make_model(shape: Mapping[str, Any], device: str = "cpu") -> Any:
    """A llama with random weights in float32 and tied embeddings."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokens = {"pad_token_id": PAD, "eos_token_id": END, "bos_token_id": None}
    with torch.device(device):
        return LlamaForCausalLM(LlamaConfig(**shape, **tokens, tie_word_embeddings=True))


def tokenized(tokenizer: Any, count: int, max_length: int) -> list[dict[str, Any]]:
    """`count` pairs, evenly spread over the file, that fit into `max_length`."""
    rows = hh_rows()
    pairs = []
    for row in rows[:: max(1, len(rows) // (count + 8))]:
        prompt = tokenizer.encode(row["prompt"])
        chosen, rejected = ([*tokenizer.encode(row[k]), END] for k in ("chosen", "rejected"))
        if len(prompt) + max(len(chosen), len(rejected)) <= max_length:
            pairs.append({"row": row, "prompt": prompt, "chosen": chosen, "rejected": rejected})
    return pairs[:count]


def real_model() -> Path | None:
    """SmolLM2-135M-Instruct's folder: PREFLINE_REAL_MODEL, or one in the user's cache."""
    named = os.environ.get("PREFLINE_REAL_MODEL")
    folder = Path(named or Path.home() / ".cache" / "prefline-real" / "SmolLM2-135M-Instruct")
    return folder if (folder / "config.json").exists() else None


def chat_pairs(tokenizer: Any, count: int, max_length: int) -> list[dict[str, Any]]:
    """`count` UltraFeedback pairs, evenly spread over the file, through the chat template."""
    found = []
    path = real_data() / "ultrafeedback" / "ultrafeedback_binarized_202.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            pair = _chat_pair(tokenizer, json.loads(line))
            longest = max(len(pair["chosen"]), len(pair["rejected"]))
            if len(pair["prompt"]) + longest <= max_length and pair["chosen"] != pair["rejected"]:
                found.append(pair)
    return found[:: max(1, len(found) // count)][:count]


def _chat_pair(tokenizer: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    def ids(messages: Any, **settings: Any) -> list[int]:
        return list(tokenizer.apply_chat_template(messages, return_dict=False, **settings))

    turns = row["chosen"][:-1]
    prompt = ids(turns, add_generation_prompt=True)
    chosen, rejected = (ids(row[side])[len(prompt) :] for side in ("chosen", "rejected"))
    sides = {side: row[side][-1:] for side in ("chosen", "rejected")}
    return {
        "row": {"prompt": turns, **sides},
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
    }


def num_tokens(pairs: list[dict[str, Any]]) -> int:
    """Real tokens: a prompt counts once, padding never."""
    return sum(len(p[part]) for p in pairs for part in ("prompt", "chosen", "rejected"))


def num_flops(pairs: list[dict[str, Any]], shape: Mapping[str, Any], per_weight: int = 6) -> float:
    """Floating point operations that a step needs at least, attention left out.

    6 per weight and token, 4 where the weight itself is not trained; layers at every token, the
    head at completion tokens.
    """
    hidden, kv = shape["hidden_size"], shape["num_key_value_heads"] * shape["head_dim"]
    attention = hidden * (2 * shape["num_attention_heads"] * shape["head_dim"] + 2 * kv)
    layer = attention + 3 * hidden * shape["intermediate_size"]
    completion = sum(len(p["chosen"]) + len(p["rejected"]) for p in pairs)
    weights = shape["num_hidden_layers"] * layer * num_tokens(pairs)
    return float(per_weight * (weights + shape["vocab_size"] * hidden * completion))


def attention_flops(pairs: list[dict[str, Any]], shape: Mapping[str, Any]) -> float:
    """Floating point operations of attention over trees: two products forward, four backward."""
    seen = 0.0
    for pair in pairs:
        prompt, *sides = (len(pair[part]) for part in ("prompt", "chosen", "rejected"))
        seen += prompt**2 / 2 + sum(side * prompt + side**2 / 2 for side in sides)
    width = shape["num_attention_heads"] * shape["head_dim"] * shape["num_hidden_layers"]
    return float(12 * seen * width)


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result beside the benchmarks."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def show(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
