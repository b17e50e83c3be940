"""Where a server is, and under which name the environment holds its key."""

import os
from typing import Annotated, LiteralString
from urllib.parse import urlsplit

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from schemas.errors import ConfigError


def _secret(message: LiteralString) -> PydanticCustomError:
    """An error of a type for which the recipe's reader does not repeat what was written."""
    return PydanticCustomError("secret", message)


def _plain_address(url: str) -> str:
    """Refuses what could carry a key; the address itself goes into tables and messages."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("write http://... or https://..., up to and with /v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise _secret("write the address alone; a key belongs into the environment")
    return url.rstrip("/")


def _variable_name(name: str) -> str:
    if not name.isidentifier() or name.upper() != name:
        raise _secret("name an environment variable like OPENAI_API_KEY, never the key itself")
    return name


Address = Annotated[str, AfterValidator(_plain_address)]
KeyVariable = Annotated[str, AfterValidator(_variable_name)]


def key_of(base_url: str, variable: str | None) -> str | None:
    """The key in an environment variable; None where none is sent.

    Raises:
        ConfigError: the variable is not set.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(
            f"{variable}: not set in the environment; set it to the key of {base_url}"
        )
    return key
