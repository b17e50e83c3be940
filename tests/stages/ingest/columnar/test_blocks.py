"""Blocks are whole lines, whatever their size and packing."""

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.errors import DataError
from stages.ingest.frames.arrays import array_lines
from stages.ingest.frames.blocks import line_blocks

LINES = [b"", b"a", b"\xef\xbb\xbfx", b"long " * 50, b"\r", b"\xff"]


def packed(data: bytes, name: str) -> bytes:
    if name.endswith(".gz"):
        return gzip.compress(data, mtime=0)
    return bytes(pa.compress(data, "zstd", asbytes=True)) if name.endswith(".zst") else data


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    lines=st.lists(st.sampled_from(LINES), min_size=1, max_size=20),
    size=st.integers(1, 400),
    ended=st.booleans(),
    name=st.sampled_from(["x.jsonl", "x.jsonl.gz", "x.jsonl.zst"]),
)
def test_blocks_joined_are_the_file(
    tmp_path: Path, lines: list[bytes], size: int, ended: bool, name: str
) -> None:
    data = b"\n".join(lines) + (b"\n" if ended else b"x")
    (tmp_path / name).write_bytes(packed(b"\xef\xbb\xbf" + data, name))
    blocks = list(line_blocks(tmp_path / name, name, size))
    assert b"".join(block.data for block in blocks) == data + (b"" if ended else b"\n")
    row = 0
    for block in blocks:
        assert block.first_row == row
        assert block.data.endswith(b"\n")
        row += block.data.count(b"\n")


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.jsonl.zst"])
def test_every_cut_of_a_packed_file_is_noticed(tmp_path: Path, name: str) -> None:
    whole = packed(b"".join(b'{"a": %d}\n' % i for i in range(300)), name)
    for size in range(1, len(whole), 7):
        (tmp_path / name).write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"x\.jsonl\.\w+: .*fetch"):
            list(line_blocks(tmp_path / name, name))


ARRAY = [
    {
        "prompt": 'a "quoted" [text], {with} \\ signs',
        "chosen": "é\n😀",
        "n": [1, {"a": []}],
    },
    {"prompt": "", "chosen": "]},{", "n": None},
    {"prompt": "f() {}, }, {", "chosen": '}, \\", {}, [1], x', "n": [{"a": "]}], "}]},
    {"prompt": "x" * 70, "chosen": "\\", "n": [[]]},
] * 3


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000])
@pytest.mark.parametrize("indent", [None, 1])
def test_the_elements_of_an_array_do_not_depend_on_where_reads_end(
    size: int, indent: int | None
) -> None:
    text = json.dumps(ARRAY, indent=indent).encode()
    for begun in range(1, 40, 3):
        stream = io.BytesIO(text)
        blocks = list(array_lines(stream.read(begun), stream, size, len(text)))
        *lines, rest = b"".join(blocks).split(b"\n")  # a carriage return is white space here
        assert rest == b""
        assert [json.loads(line) for line in lines] == ARRAY
        assert size > 64 or len(blocks) > 1


@pytest.mark.parametrize("size", [7, 1000])
@pytest.mark.parametrize("indent", [None, 1])
def test_an_array_that_is_cut_off_anywhere_has_a_line_that_is_no_row(
    size: int, indent: int | None
) -> None:
    text = json.dumps(ARRAY[:4], indent=indent).encode()
    for cut in range(2, len(text)):
        stream = io.BytesIO(text[:cut])
        *lines, rest = b"".join(array_lines(stream.read(2), stream, size, len(text))).split(b"\n")
        assert rest == b""
        with pytest.raises(ValueError, match=r"line 1 column"):
            json.loads(lines[-1])
        assert [json.loads(line) for line in lines[:-1]] == ARRAY[: len(lines) - 1]
