"""What all results have in common, and how their files are written and read."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import DataError, MissingInputError
from schemas.files import read_record, write_json


class Result(BaseModel):
    """Base of everything that one stage writes as JSON for others to read.

    A key that is not known is passed over, and one that was added later has a default: what newer
    and what earlier versions wrote can be read. A field's title is what people are shown of it.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=False, defer_build=True, protected_namespaces=()
    )

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return self.model_dump()

    @classmethod
    def label(cls, field: str) -> str:
        """What a field is called in front of people."""
        return cls.model_fields[field].title or field.replace("_", " ")

    @classmethod
    def labels(cls) -> dict[str, str]:
        """The fields that people are shown, in order, and what each is called."""
        return {name: f.title for name, f in cls.model_fields.items() if f.title}


class Estimate(Result):
    """A number over `n` units, its standard error and its 95% interval.

    All None where there is nothing to estimate; the error is None below two units, or where the
    interval does not come from one; the interval is None where no honest one is known.
    """

    value: float | None = None
    standard_error: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int = Field(0, ge=0)


R = TypeVar("R", bound=BaseModel)


def write_result(path: Path, value: BaseModel) -> None:
    """Write a result whole or not at all; a number that is not finite is a bug and raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, value.model_dump())


def read_result(path: Path, kind: type[R]) -> R:
    """Read a result.

    Raises:
        MissingInputError: no such file.
        DataError: not JSON, or not such a result; names the file and the key.
    """
    try:
        return kind.model_validate(json.loads(read_record(path)))
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: missing; run the stage that writes it again") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise DataError(f"{path}: {where}: {first['msg']}; run its stage again") from error
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); run its stage again") from error
