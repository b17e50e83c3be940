"""Whatever happens to a byte, no other line is lost and nothing stops."""

import json
from collections import Counter
from pathlib import Path

import pytest

from stages.ingest.config import IngestConfig
from stages.ingest.datasets.config import FileDataset
from stages.ingest.datasets.open import open_dataset
from stages.ingest.readers.pieces import read_file

LINES = [
    json.dumps(
        {
            "chosen": f"\n\nHuman: é{i}?\n\nAssistant: a",
            "rejected": f'\n\nHuman: é{i}?\n\nAssistant: "b"',
        },
        ensure_ascii=False,
    ).encode()
    for i in range(3)
]


def readings(path: Path) -> tuple[list[int], list[int]]:
    """Rows kept and rows rejected."""
    config = IngestConfig.model_validate({"datasets": [{"kind": "hh", "path": str(path)}]})
    (dataset,) = config.datasets
    assert isinstance(dataset, FileDataset)
    kept: list[int] = []
    rejected: list[int] = []
    for piece in read_file(open_dataset(dataset), str(path), path):
        examples, rejects = piece.readings
        kept += examples["row"].to_list()
        rejected += [row for row, _ in rejects]
        for row, _ in rejects:
            assert isinstance(piece.raw(row), str)
    return kept, rejected


@pytest.mark.parametrize("byte", [None, b"", b"\x00", b'"', b"\\", b"\xff", b"\n", b"}", b"\xc3"])
def test_every_byte_of_a_line_can_be_cut_or_changed(tmp_path: Path, byte: bytes | None) -> None:
    """`None` cuts the line off there, the rest is put in the byte's place."""
    path = tmp_path / "rows.jsonl"
    for at in range(0, len(LINES[1])):
        bad = LINES[1][:at] if byte is None else LINES[1][:at] + byte + LINES[1][at + 1 :]
        data = b"\n".join([LINES[0], bad, LINES[2]]) + b"\n"
        path.write_bytes(data)
        kept, rejected = readings(path)
        lines = data.split(b"\n")[:-1]
        assert sorted(kept + rejected) == list(range(len(lines)))
        assert {lines.index(LINES[0]), lines.index(LINES[2])} <= set(kept)


def test_a_bad_line_costs_its_block_nothing(tmp_path: Path) -> None:
    """One line in three is bad in a way that stops a whole parser; the others are read as ever."""
    path = tmp_path / "rows.jsonl"
    bad = [
        LINES[0][:20],
        b'{"chosen": NaN}',
        LINES[0][:30] + b"\xff" + LINES[0][31:],
        b"",
        b"\xef\xbb\xbf{}",
    ]
    lines = [line for i in range(50) for line in (LINES[0], bad[i % len(bad)], LINES[2])]
    path.write_bytes(b"\n".join(lines))
    kept, rejected = readings(path)
    assert Counter(row % 3 for row in rejected) == {1: 50}
    assert len(kept) == 100
