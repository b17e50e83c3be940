import gzip
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from schemas.stage import SilentProgress, StageContext
from stages.ingest import STAGE
from stages.ingest.config import IngestConfig
from tests.fixtures.ingest import Ingest, Ingested


@pytest.fixture
def ingest(tmp_path: Path) -> Ingest:
    """Run the stage on datasets given as in a recipe."""

    def run(*datasets: Mapping[str, Any], **settings: Any) -> Ingested:
        output = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        progress = SilentProgress()
        config = IngestConfig.model_validate({"datasets": list(datasets), **settings})
        context = StageContext(inputs={}, output=output, progress=progress)
        return Ingested(STAGE.run(config, context), output, progress)

    return run


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., str]:
    """Write rows (or lines of bytes) as JSON Lines; returns the path."""

    def write(rows: Iterable[Any], name: str = "rows.jsonl") -> str:
        lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in rows]
        data = b"".join(line + b"\n" for line in lines)
        path = tmp_path / name
        path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
        return str(path)

    return write
