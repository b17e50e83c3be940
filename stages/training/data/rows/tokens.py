"""The tokens of a stage's rows: made once per content, tokenizer and length, and then shared."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from schemas.files import write_json
from schemas.ids import content_id
from schemas.parquet import iter_batches, read_rows
from schemas.tables import REJECTS, Table
from stages.training.data.disk_cache import DiskCache
from stages.training.data.rows.rejects import Rejects
from stages.training.data.rows.token_store import TOKENS_FILE, TokenItem, TokenTable, write_tokens

# To be raised when the same rows are screened, or stored, differently from before.
_CUTS = "cuts.json"
_FORMAT = "cuts-4"


def cached_tokens(
    cache: DiskCache,
    made_of: Sequence[str],
    batches: Callable[[Rejects], Iterable[Sequence[TokenItem]]],
    rejects: Rejects,
    *,
    parts: int,
    numbers: Sequence[str] = (),
) -> TokenTable:
    """The table that `batches` gives, from the cache where it was made before.

    `made_of` must say all that the items follow from. `batches` sets rows aside in the rejects it
    is given; they are kept with the tokens and arrive in `rejects` either way.
    """

    def write(folder: Path) -> None:
        aside = Rejects(rejects.table)
        write_tokens(folder / TOKENS_FILE, batches(aside), parts, numbers)
        aside.write(folder)
        write_json(folder / _CUTS, dict(aside.cuts))

    def read(folder: Path) -> TokenTable:
        table = TokenTable(folder / TOKENS_FILE)
        rejects.rows += read_rows(folder / REJECTS.file_name, REJECTS)
        rejects.cuts.update(json.loads((folder / _CUTS).read_text(encoding="utf-8")))
        return table

    key = content_id("tokens", _FORMAT, rejects.table, str(parts), *numbers, "|", *made_of)
    return cache.get(f"tokens/{key}", write, read)


def has_split(path: Path, table: Table, name: str) -> bool:
    """Whether the file of a declared table has a row of that split."""
    return any(batch.num_rows for batch in iter_batches(path, table, splits=(name,)))
