"""What goes wrong around a command, and how it is mended again.

A trouble changes files before a command (`change`) or what its process may do (`prepare`); what it
returns or does is undone with the process, or by `mend`.
"""

import ctypes
import errno
import io
import json
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

Library = ctypes.CDLL
_MAY_READ_ALL = (1, 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


class Trouble:
    """Nothing goes wrong."""

    kind = "none"

    def change(self, folder: Path) -> None:
        """Change files of the state that the command finds."""

    def prepare(self, library: Library) -> None:
        """Change what the process may do; called in it."""

    def mend(self) -> None:
        """Undo what `change` has done, where the command has left it."""


@dataclass
class FailingCall(Trouble):
    """The n-th call that changes a file fails; a full disk stays full."""

    folder: Path
    number: int
    error: int

    @property
    def kind(self) -> str:  # type: ignore[override]
        return "full disk" if self.error == errno.ENOSPC else "failing call"

    def prepare(self, library: Library) -> None:
        lasting = self.error == errno.ENOSPC
        place = str(self.folder).encode()
        library.kill_at_fail(place, ctypes.c_long(self.number), self.error, int(lasting))


@dataclass
class SmallDisk(Trouble):
    """The folder lies on a disk of its own with so many free bytes. Only root can make one."""

    free: int
    kind = "small disk"
    _folder: Path = Path()

    def change(self, folder: Path) -> None:
        self._folder = folder
        aside = folder.with_name("beside")
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(folder, aside)
        folder.mkdir()
        self._mount("-t", "tmpfs", "-o", "size=1G", "tmpfs")
        shutil.copytree(aside, folder, symlinks=True, dirs_exist_ok=True)
        used = shutil.disk_usage(folder).used
        self._mount("-o", f"remount,size={used + self.free}")

    def mend(self) -> None:
        self._mount("-o", "remount,size=1G")

    def leave(self) -> None:
        """Take the disk away."""
        subprocess.run(["umount", "-l", str(self._folder)], check=True)  # also while it is busy

    def _mount(self, *how: str) -> None:
        subprocess.run(["mount", *how, str(self._folder)], check=True)


@dataclass
class Limit(Trouble):
    """The process may have only so much."""

    what: str
    most: int

    @property
    def kind(self) -> str:  # type: ignore[override]
        return {"NOFILE": "few descriptors", "AS": "little memory", "FSIZE": "small files"}[
            self.what
        ]

    def prepare(self, library: Library) -> None:
        most = self.most
        if self.what == "AS":  # beyond what it has already
            most += int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(getattr(resource, f"RLIMIT_{self.what}"), (most, most))


@dataclass
class Streams(Trouble):
    """The outputs are not what one would expect."""

    how: str
    kind = "outputs"

    def prepare(self, library: Library) -> None:
        if self.how == "full":
            os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
            sys.stdout = os.fdopen(1, "w", closefd=False)
        elif self.how == "nobody reads":
            reads, writes = os.pipe()
            os.close(reads)
            os.dup2(writes, 1)
            sys.stdout = os.fdopen(1, "w", closefd=False)
        elif self.how == "ascii":
            sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), encoding="ascii")
            sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb", closefd=False), encoding="ascii")
        if self.how in ("no stdout", "neither"):
            os.close(1)
            sys.stdout = None
        if self.how in ("no stderr", "neither"):
            os.close(2)
            sys.stderr = None


@dataclass
class OddFile(Trouble):
    """A file is something else."""

    path: Path
    way: str
    kind = "odd files"
    _was: Path | None = None

    def change(self, folder: Path) -> None:
        if os.path.lexists(self.path):
            self._was = folder.with_name("was")
            _remove(self._was)
            os.rename(self.path, self._was)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        WAYS[self.way](self.path, self._was)

    def prepare(self, library: Library) -> None:
        if self.way in ("unreadable", "read-only"):
            _read_no_more_than_allowed(library)

    def mend(self) -> None:
        if self._was is None:
            if self._is_odd():
                _remove(self.path)
        elif self.path.parent.is_dir() and (self._is_odd() or not os.path.lexists(self.path)):
            _remove(self.path)
            os.rename(self._was, self.path)

    def _is_odd(self) -> bool:
        """Whether it is still there, and not replaced by what should be there."""
        return os.path.lexists(self.path) and (
            self.path.is_symlink()
            or not self.path.is_file()
            or self.way in ("unreadable", "read-only", "nothing", "garbage", "half")
        )


def _link(to: str) -> Callable[[Path, Path | None], None]:
    return lambda path, _: path.symlink_to(to)


def _holding(data: bytes) -> Callable[[Path, Path | None], None]:
    def write(path: Path, was: Path | None) -> None:
        path.write_bytes(data)

    return write


def _socket(path: Path, was: Path | None) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(path.parent, os.O_PATH)
        made.bind(f"/proc/self/fd/{here}/{path.name}")  # the whole path may be too long for one
        os.close(here)


def _with_rights(mode: int) -> Callable[[Path, Path | None], None]:
    def change(path: Path, was: Path | None) -> None:
        _as_it_was(path, was)
        path.chmod(mode)

    return change


def _half(path: Path, was: Path | None) -> None:
    data = was.read_bytes() if was is not None and was.is_file() else b"{"
    path.write_bytes(data[: len(data) // 2])


def _as_it_was(path: Path, was: Path | None) -> None:
    if was is not None and was.is_file():
        shutil.copyfile(was, path)
    else:
        path.write_bytes(b"")


WAYS: dict[str, Callable[[Path, Path | None], None]] = {
    "pipe": lambda path, _: os.mkfifo(path),
    "folder": lambda path, _: path.mkdir(),
    "device": _link("/dev/zero"),
    "null": _link("/dev/null"),
    "socket": _socket,
    "dangling": _link("nowhere"),
    "loop": lambda path, _: path.symlink_to(path.name),
    "unreadable": _with_rights(0),
    "read-only": _with_rights(0o444),
    "nothing": _holding(b""),
    "garbage": _holding(random.Random(1).randbytes(3000)),
    "half": _half,
}


_HOLD = """
import sqlite3, sys
from pathlib import Path
Path(sys.argv[1]).parent.mkdir(parents=True, exist_ok=True)
database = sqlite3.connect(sys.argv[1], isolation_level=None)
if sys.argv[2] == "True":
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
database.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@dataclass
class Locked(Trouble):
    """Another program holds a database: all of it, or the right to write."""

    path: Path
    whole: bool
    kind = "locked answers"
    _holder: "subprocess.Popen[bytes] | None" = None

    def change(self, folder: Path) -> None:
        command = [sys.executable, "-c", _HOLD, str(self.path), str(self.whole)]
        self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        if not self._holder.stdout.readline():
            raise RuntimeError("the database cannot be held")

    def mend(self) -> None:
        assert self._holder is not None
        self._holder.communicate()


@dataclass
class BadModel(Trouble):
    """A folder of a model is not one, in one of many ways."""

    model: Path
    way: str
    kind = "bad models"
    _was: Path = Path()

    def change(self, folder: Path) -> None:
        self._was = folder.with_name("was-model")
        _remove(self._was)
        shutil.copytree(self.model, self._was, symlinks=True)
        (MODELS | ADAPTERS)[self.way](self.model)

    def mend(self) -> None:
        _remove(self.model)
        shutil.copytree(self._was, self.model, symlinks=True)


def _cut(name: str, share: float) -> Callable[[Path], None]:
    def cut(model: Path) -> None:
        data = (model / name).read_bytes()
        (model / name).write_bytes(data[: int(len(data) * share)])

    return cut


def _said(name: str, **changed: Any) -> Callable[[Path], None]:
    def say(model: Path) -> None:
        said = json.loads((model / name).read_text()) | changed
        (model / name).write_text(json.dumps({k: v for k, v in said.items() if v is not None}))

    return say


def _written(name: str, text: str) -> Callable[[Path], None]:
    def write(model: Path) -> None:
        (model / name).write_text(text)

    return write


def _weights(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def write(model: Path) -> None:
        tensors = load_file(model / _WEIGHTS)
        change(tensors)
        save_file(tensors, model / _WEIGHTS, metadata={"format": "pt"})

    return write


def _not_finite(number: float) -> Callable[[dict[str, Any]], object]:
    def change(tensors: dict[str, Any]) -> None:
        tensors[_SOME] = tensors[_SOME].copy()
        tensors[_SOME].flat[7] = number

    return change


def _without(name: str) -> Callable[[Path], None]:
    return lambda model: (model / name).unlink()


_CONFIG, _WEIGHTS, _TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
_SOME = "model.layers.0.mlp.up_proj.weight"
_UNKNOWN_TEMPLATE = "{{ messages | no_such_filter }}"
MODELS: dict[str, Callable[[Path], None]] = {
    "weights cut in the header": _cut(_WEIGHTS, 0.001),
    "weights cut in half": _cut(_WEIGHTS, 0.5),
    "weights empty": _cut(_WEIGHTS, 0),
    "weights are text": _written(_WEIGHTS, "version https://git-lfs.example/spec\noid x\n" * 3),
    "weights missing": _without(_WEIGHTS),
    "weights with NaN": _weights(_not_finite(float("nan"))),
    "weights with infinity": _weights(_not_finite(float("inf"))),
    "a weight of another shape": _weights(lambda t: t.update({_SOME: t[_SOME][:-1].copy()})),
    "a weight with one dimension": _weights(lambda t: t.update({_SOME: t[_SOME].ravel()})),
    "a weight of whole numbers": _weights(lambda t: t.update({_SOME: t[_SOME].astype("int8")})),
    "a weight missing": _weights(lambda t: t.pop(_SOME)),
    "a weight of another name": _weights(lambda t: t.update({f"x.{_SOME}": t.pop(_SOME)})),
    "a weight too many": _weights(lambda t: t.update({"model.more.weight": t[_SOME]})),
    "config missing": _without(_CONFIG),
    "config cut": _cut(_CONFIG, 0.5),
    "config is a list": _written(_CONFIG, "[]"),
    "config of another type": _said(_CONFIG, model_type="gpt2"),
    "config of no type": _said(_CONFIG, model_type="no-such-type"),
    "config without type": _said(_CONFIG, model_type=None, architectures=None),
    "config of an encoder": _said(_CONFIG, model_type="bert", architectures=["BertModel"]),
    "other sizes": _said(_CONFIG, hidden_size=48),
    "sizes that are text": _said(_CONFIG, hidden_size="many"),
    "no layers": _said(_CONFIG, num_hidden_layers=0),
    "negative vocabulary": _said(_CONFIG, vocab_size=-5),
    "huge vocabulary": _said(_CONFIG, vocab_size=1 << 40),
    "small vocabulary": _said(_CONFIG, vocab_size=20),
    "another quantization": _said(_CONFIG, quantization_config={"quant_method": "gptq", "bits": 4}),
    "no such attention": _said(_CONFIG, _attn_implementation="nonsense"),
    "code of its own": _said(_CONFIG, auto_map={"AutoModelForCausalLM": "own.Own"}),
    "tokenizer is none": _written(_TOKENIZER, '{"model": {"type": "Nothing"}}'),
    "tokenizer is no JSON": _written(_TOKENIZER, "tokens, many"),
    "tokenizer cut": _cut(_TOKENIZER, 0.5),
    "tokenizer missing": _without(_TOKENIZER),
    "tokenizer without tokens": _written(
        _TOKENIZER,
        '{"version": "1.0", "model": {"type": "WordLevel", "vocab": {}, "unk_token": "u"}}',
    ),
    "tokenizer of no class": _said("tokenizer_config.json", tokenizer_class="NoSuch"),
    "tokenizer of another end": _said("tokenizer_config.json", eos_token="<nowhere>"),
    "tokenizer without an end": _said("tokenizer_config.json", eos_token=None),
    "end of text beyond the vocabulary": _said(_CONFIG, eos_token_id=99_999),
    "tokenizer settings cut": _cut("tokenizer_config.json", 0.5),
    "template with a syntax error": _written("chat_template.jinja", "{% for m in messages %}{{"),
    "template that raises": _written("chat_template.jinja", "{{ raise_exception('no') }}"),
    "template of another world": _written("chat_template.jinja", "{{ messages.nothing.there() }}"),
    "template without end": _written(
        "chat_template.jinja", "{% for i in range(10**9) %}{{ i }}{% endfor %}"
    ),
    "template with an unknown filter": _written("chat_template.jinja", _UNKNOWN_TEMPLATE),
    "template that is a device": lambda model: _device(model / "chat_template.jinja"),
    "template is empty": _written("chat_template.jinja", ""),
}
_ADAPTER, _LOW_RANK = "adapter_config.json", "adapter_model.safetensors"
ADAPTERS: dict[str, Callable[[Path], None]] = {
    "adapter of another rank": _said(_ADAPTER, r=3),
    "adapter of rank 0": _said(_ADAPTER, r=0),
    "adapter of no modules": _said(_ADAPTER, target_modules=["no_such"]),
    "adapter of another type": _said(_ADAPTER, peft_type="NO_SUCH"),
    "adapter without base": _said(_ADAPTER, base_model_name_or_path=None),
    "adapter of a base that is gone": _said(_ADAPTER, base_model_name_or_path="/nowhere/base"),
    "adapter settings cut": _cut(_ADAPTER, 0.5),
    "adapter settings of another shape": _written(_ADAPTER, "[1]"),
    "adapter cut": _cut(_LOW_RANK, 0.5),
    "adapter missing": _without(_LOW_RANK),
    "adapter is text": _written(_LOW_RANK, "low rank"),
}


def _device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            path.unlink()


def _read_no_more_than_allowed(library: Library) -> None:
    """Take from root what lets it read a file that nobody may read."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    rights = (ctypes.c_uint32 * 6)()
    if library.capget(header, rights) == 0:
        for one in _MAY_READ_ALL:
            rights[0] &= ~(1 << one)
        library.capset(header, rights)


def files_below(folder: Path) -> Iterator[Path]:
    """Regular files, in order."""
    yield from sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
