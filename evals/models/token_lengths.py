"""Lengths of conversations in a tokenizer's tokens: what a model will see of them.

Only content is counted, not what a chat template puts around it.
"""

from pathlib import Path

import polars as pl
from tokenizers import Tokenizer

from schemas.errors import DataError

SAMPLED = 20_000
"""Rows of a table that are tokenized at most, evenly over the file: enough for quantiles."""


def find_tokenizer(run_dir: Path) -> Path | None:
    """The tokenizer of the model that a run trains, where it has made one."""
    for stage in ("train", "sft", "judge"):
        path = run_dir / stage / "model" / "tokenizer.json"
        if path.is_file():
            return path
    return None


def token_lengths(table: Path, columns: list[str], tokenizer: Path) -> dict[str, list[int]]:
    """Tokens per row of each conversation column, all turns together; at most SAMPLED rows.

    Args:
        table: a Parquet file with those columns.
        tokenizer: a tokenizer.json, or a folder that holds one.

    Raises:
        DataError: not a tokenizer.
    """
    texts = [
        pl.col(name)
        .list.eval(pl.element().struct.field("content"))
        .list.join("\n", ignore_nulls=True)
        for name in columns
    ]
    frame = pl.scan_parquet(table, glob=False).select(texts)
    rows = frame.select(pl.len()).collect().item()
    sampled = frame.gather_every(max(1, -(-rows // SAMPLED))).collect()
    encoder = _open(tokenizer)
    return {
        name: [
            len(one.ids)
            for one in encoder.encode_batch(
                sampled[name].fill_null("").to_list(), add_special_tokens=False
            )
        ]
        for name in columns
    }


def _open(path: Path) -> Tokenizer:
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        opened = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception for everything
        raise DataError(
            f"{file}: not a tokenizer ({str(error)[:80]}); give a tokenizer.json"
        ) from error
    opened.no_truncation()
    opened.no_padding()
    return opened
