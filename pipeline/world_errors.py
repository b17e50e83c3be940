"""What the world around a run can raise, in one sentence each.

Libraries raise what they like when a disk is full, a file is damaged or a model is not one. This is
the one place that knows their errors; nothing is imported for it, a type's name is enough.
"""

import errno
import io
import os
import re
import shutil
import sys
import traceback
from collections.abc import Iterator

from schemas.files import first_line

_REMEDIES = {
    errno.ENOSPC: "free some space, or choose another --run-dir",
    errno.EDQUOT: "free some space, or choose another --run-dir",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f), or choose another disk",
    errno.EMFILE: "raise the limit on open files (ulimit -n 4096)",
    errno.ENFILE: "close other programs, or raise the system's limit on open files",
    errno.ENOMEM: "close other programs, or lower batch sizes",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ENOTDIR: "a file is where a folder should be: move it, or choose another path",
    errno.EISDIR: "a folder is where a file should be: move it, or choose another path",
    errno.ELOOP: "a link leads to itself: correct it",
    errno.EROFS: "it is mounted for reading only; choose another --run-dir",
    errno.EACCES: "change its permissions, or choose another path",
    errno.EPERM: "change its permissions, or choose another path",
    errno.ENOENT: "put it back, or correct its path",
    errno.EIO: "the disk has a fault; choose another",
    errno.ESTALE: "the network disk has lost it; mount it again",
    errno.EPIPE: "whoever read the output has left",
    errno.EBADF: "an output is closed; leave stdout and stderr open",
}
# Their errors are about what they were given: files, models, servers, memory.
_LIBRARIES = {
    *("transformers", "safetensors", "safetensors_rust", "tokenizers", "huggingface_hub", "peft"),
    *("jinja2", "sqlite3", "pyarrow", "polars", "datasets", "httpx", "httpcore", "inspect_ai"),
    *("torch", "vllm", "ray", "tomllib", "json"),
    # Loaded for what a model's config.json says of its weights.
    *("accelerate", "bitsandbytes", "optimum", "gptqmodel", "awq", "compressed_tensors"),
    *("flash_attn", "sentencepiece", "tiktoken", "google"),
}
_NO_THREAD = "can't start new thread"  # what Python says where memory or processes are limited
_WRITTEN_SHORT = "] . unexpected pos "  # what torch says where a disk took a part of a file
_AGAIN = "what is finished is kept: run the same command again"


def sentence_of(error: BaseException) -> str | None:
    """What to tell the user about an error of the world; None for one that is a bug of ours."""
    for one in _leaves(error):
        of_system = isinstance(one, OSError) and one.errno is not None
        if isinstance(one, OSError) and (of_system or _is_odd_file(one) or _library_of(one)):
            return _of_system(one)
        if str(one) == _NO_THREAD:
            return f"the system starts no further thread: {_REMEDIES[errno.ENOMEM]}; {_AGAIN}"
        if isinstance(one, MemoryError) or type(one).__name__ == "OutOfMemoryError":
            return f"out of memory; lower batch sizes or lengths, or use a larger machine; {_AGAIN}"
        library = _library_of(one)
        if library and (told := re.search(r"\(os error (\d+)\)", str(one))):  # as Rust says it
            return _of_system(OSError(int(told[1]), ""))
        if library == "torch" and _WRITTEN_SHORT in str(one):
            why = "the disk is full, or files may not be so large"
            return f"a file could not be written whole: {why}; {_REMEDIES[errno.ENOSPC]}"
        if library:
            return (
                f"{library}: {type(one).__name__}: {first_line(one)}; check the files and models "
                f"that this stage reads; {_AGAIN} (PREFLINE_TRACEBACK=1 shows where it happened)"
            )
    return None


def _is_odd_file(error: OSError) -> bool:
    """Whether a file cannot do what files can: a pipe that cannot be read from its middle."""
    return isinstance(error, io.UnsupportedOperation)


def is_interrupt(error: BaseException) -> bool:
    """Whether somebody has pressed Ctrl-C, also where a library's group of tasks wrapped that."""
    return any(isinstance(one, KeyboardInterrupt) for one in _leaves(error))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    elif isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        yield from map(_of_copy, error.args[0])
    else:
        yield error


def _of_copy(failed: tuple[str, str, str]) -> OSError:
    """What went wrong with one file of a folder that is copied; shutil keeps only its words."""
    _, place, said = failed
    number = re.match(r"\[Errno (\d+)\]", str(said))
    return OSError(int(number[1]) if number else errno.EIO, str(said), str(place))


def _of_system(error: OSError) -> str:
    number = error.errno or 0
    said = os.strerror(number) if number else first_line(error)
    where = error.filename if error.filename is not None else "a file or folder"
    remedy = _REMEDIES.get(number, "check the path and the disk")
    return f"{os.fsdecode(where) if not isinstance(where, int) else where}: {said}; {remedy}"


def _library_of(error: BaseException) -> str:
    """The library that an error is of, or whose code has raised it; empty for our own code."""
    root = type(error).__module__.partition(".")[0]
    if type(error) is Exception or root == "pyo3_runtime":  # raised from Rust, and never by us
        return "a library"
    if root in _LIBRARIES:
        return root
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        place = frame.filename.replace(os.sep, "/")
        if "/site-packages/" in place:
            found = place.rpartition("/site-packages/")[2].partition("/")[0].removesuffix(".py")
            return found if found in _LIBRARIES else ""
        if not place.startswith(f"{sys.base_prefix.replace(os.sep, '/')}/"):
            return ""  # our code: calls into the standard library are ours too
    return ""


def safe_streams() -> None:
    """Let nothing that is said fail: a closed output is nowhere; what it cannot show is escaped."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            setattr(sys, name, os.fdopen(nowhere, "w", encoding="utf-8", closefd=number > 2))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
