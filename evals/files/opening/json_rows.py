"""One row of JSON, which is an object with keys."""

import json
from typing import Any

from schemas.errors import DataError


def json_object(text: str, where: str) -> dict[str, Any]:
    """The object that a text spells; `where` names file and row.

    Raises:
        DataError: it is no JSON, or no object.
    """
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: {type(row).__name__}, must be an object with keys")
    return row
