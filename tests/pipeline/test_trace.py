"""The raw line at the end of a trace, however its file is packed."""

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.commands.data.trace import trace_back
from schemas.parquet import write_table
from schemas.tables import PROMPTS

LINES = b'{"prompt": "first"}\n{"prompt": "gr\xc3\xbc\xc3\x9fe"}\n'
PACKED = {
    "x.jsonl": LINES,
    "x.jsonl.gz": gzip.compress(LINES, mtime=0),
    "x.jsonl.zst": bytes(pa.compress(LINES, "zstd", asbytes=True)),
}


@pytest.mark.parametrize("name", PACKED)
def test_the_raw_line_is_found(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(PACKED[name])
    row = dict.fromkeys(PROMPTS.schema.names) | {
        "prompt_id": "p1",
        "prompt": [],
        "split": "train",
        "source": "s",
        "file": str(tmp_path / name),
        "row": 1,
    }
    write_table(tmp_path / "ingest" / "prompts.parquet", PROMPTS, [row])
    last = trace_back("p1", tmp_path)[-1]
    assert (last["line"], last["text"]) == (1, '{"prompt": "gr\u00fc\u00dfe"}')
