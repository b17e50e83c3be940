"""Files on a remote store, such as s3://, gs:// or hf://, through fsspec: fetched once, then local.

What is fetched lies in the cache folder under a name made of the address and of what the store says
of the file (its size, time or version): the same file is not fetched twice, and a changed one is
not taken for the old one.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from evals.files.opening.places import SUFFIXES, is_remote, local_files
from schemas.errors import BackendError, MissingInputError
from schemas.files import first_line, writing_file
from schemas.hashes import cache_folder

T = TypeVar("T")

# A store that nobody answers for is told of after seconds; fsspec's own settings go before this.
_S3 = {"config_kwargs": {"connect_timeout": 5, "retries": {"max_attempts": 2}}}
_PATIENCE: dict[str, dict[str, Any]] = {"s3": _S3, "s3a": _S3}


def data_files(path: str, suffixes: tuple[str, ...] = SUFFIXES) -> list[tuple[str, Path]]:
    """The files a path stands for, here or on a remote store, each with its name in the tables.

    Raises what `local_files` and `remote_files` raise.
    """
    if not is_remote(path):
        return local_files(path, suffixes)
    return [(file, fetched(file, place)) for file, place in remote_files(path, suffixes)]


def remote_files(path: str, suffixes: tuple[str, ...]) -> list[tuple[str, str]]:
    """The addresses that a remote path stands for (a file, all data files of a folder, a pattern),
    each with its place in the store.

    Raises:
        MissingInputError: there is no such file.
        BackendError: the store cannot be reached, or its package is not installed.
    """
    store, place = store_of(path)

    def found() -> list[str]:
        if any(sign in place for sign in "*?["):
            return sorted(store.glob(place))
        if store.isdir(place):
            return sorted(p for p in store.find(place) if p.endswith(suffixes))
        return [place] if store.exists(place) else []

    places = asked(path, found)
    if not places:
        raise MissingInputError(f"{path}: no such file there; correct the path")
    protocol = path.split("://", 1)[0]
    return [(f"{protocol}://{one.split('://', 1)[-1]}", one) for one in places]


def fetched(path: str, place: str) -> Path:
    """The local copy of a remote file. Raises BackendError."""
    store, _ = store_of(path)
    said = asked(path, lambda: str(store.ukey(place)))
    name = hashlib.sha256(f"{path} {place} {said}".encode()).hexdigest()[:24]
    local = cache_folder() / "remote" / name / Path(place).name
    if not local.exists():
        with writing_file(local, shared=True) as temporary:
            asked(path, lambda: store.get_file(place, str(temporary)))
    return local


def store_of(path: str) -> tuple[Any, str]:
    """The store of an address, and the place in it. Raises BackendError."""
    import fsspec  # which loads more than most runs need

    protocol = path.split("://", 1)[0]
    own = fsspec.config.conf.get(protocol, {})
    patience = {k: v for k, v in _PATIENCE.get(protocol, {}).items() if k not in own}
    store, place = asked(path, lambda: fsspec.core.url_to_fs(path, **patience))
    return store, str(place)


def asked(path: str, ask: Callable[[], T]) -> T:
    """What a store answers. Raises BackendError where it does not."""
    try:
        return ask()
    except ImportError as error:
        raise BackendError(f"{path}: {first_line(error)}") from error
    except (MissingInputError, BackendError):
        raise
    except Exception as error:  # whatever a store and the network below it raise
        protocol = path.split("://", 1)[0]
        raise BackendError(
            f"{path}: cannot be reached ({type(error).__name__}: {first_line(error)}); check the "
            f"address, the network and the credentials of {protocol}, or copy the files here and "
            "set their path"
        ) from error
