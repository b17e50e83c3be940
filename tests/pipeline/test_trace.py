"""The raw line at the end of a trace, however its file is packed."""

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.commands.data.trace import trace_back
from schemas.files import write_json
from schemas.ids import file_sha256
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


def test_a_raw_file_that_has_changed_is_not_shown(tmp_path: Path) -> None:
    raw = tmp_path / "x.jsonl"
    raw.write_bytes(LINES)
    row = dict.fromkeys(PROMPTS.schema.names) | {
        "prompt_id": "p1",
        "prompt": [],
        "split": "train",
        "source": "s",
        "file": str(raw),
        "row": 1,
    }
    write_table(tmp_path / "ingest" / "prompts.parquet", PROMPTS, [row])
    made: dict[str, object] = {"command": [], "packages": {}, "hardware": {}, "python": ""}
    made |= {"started_at": "", "finished_at": "", "commit": None, "dirty": None}
    made |= {"wall_seconds": 0, "cpu_seconds": 0, "peak_rss_bytes": 0}
    manifest: dict[str, object] = {"stage": "ingest", "fingerprint": "", "provenance": made}
    manifest["payload"] = {"files": {str(raw): file_sha256(raw)}}
    write_json(tmp_path / "ingest" / "manifest.json", manifest)
    assert trace_back("p1", tmp_path)[-1]["changed"] is False
    raw.write_bytes(b'{"prompt": "new"}\n' + LINES)
    last = trace_back("p1", tmp_path)[-1]
    assert (last["text"], last["changed"]) == (None, True)
