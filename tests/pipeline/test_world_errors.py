"""Errors of the world in one line: whatever a library raises, and nothing that is a bug of ours."""

import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors
import safetensors.torch
import tokenizers

from pipeline.recipe import load_recipe
from pipeline.world_errors import is_interrupt, sentence_of
from schemas.errors import ConfigError


def raised(act: Callable[[], Any]) -> BaseException:
    try:
        act()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def query(path: Path) -> None:
    database = sqlite3.connect(path)
    try:
        database.execute("select * from t")
    finally:
        database.close()


def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken"
    path.write_bytes(b"nonsense" * 200)
    return path


LIBRARIES: dict[str, Callable[[Path], Any]] = {
    "sqlite3": query,
    "pyarrow": lambda path: pq.read_table(path),
    "safetensors": lambda path: safetensors.torch.load_file(path),
    "tokenizers": lambda path: tokenizers.Tokenizer.from_file(str(path)),
    "jinja2": lambda path: jinja2.Environment().from_string("{% if %}"),
    "json": lambda path: json.loads("{"),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_a_library_raises_is_a_sentence(tmp_path: Path, library: str) -> None:
    said = sentence_of(raised(lambda: LIBRARIES[library](broken(tmp_path))))
    assert said is not None
    assert len(said.splitlines()) == 1
    assert "what is finished is kept" in said


@pytest.mark.parametrize(
    "number",
    [
        *(errno.ENOSPC, errno.EMFILE, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR),
        *(errno.ELOOP, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EIO, errno.ENOENT),
    ],
)
def test_what_the_system_refuses_names_the_file_and_what_to_do(number: int) -> None:
    said = sentence_of(OSError(number, os.strerror(number), "some/file"))
    assert said is not None
    assert said.startswith(f"some/file: {os.strerror(number)}; ")
    assert len(said) > len(f"some/file: {os.strerror(number)}; ")


def test_a_folder_that_cannot_be_copied_is_told_by_its_first_file(
    tmp_path: Path,
) -> None:
    (tmp_path / "from" / "deep").mkdir(parents=True)
    (tmp_path / "from" / "deep" / "file").write_text("x")

    def full(source: str, place: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), place)

    error = raised(lambda: shutil.copytree(tmp_path / "from", tmp_path / "to", copy_function=full))
    assert isinstance(error, shutil.Error)
    place = tmp_path / "to" / "deep" / "file"
    assert str(sentence_of(error)).startswith(f"{place}: No space left on device; free some space")


@pytest.mark.parametrize("library", ["tokenizers", "torch"])
def test_a_file_that_a_library_could_not_write_whole_is_told(library: str) -> None:
    script = f"""
import io, resource, sys, tempfile
import tokenizers, torch
from pathlib import Path
from pipeline.world_errors import sentence_of
place = Path(tempfile.mkdtemp()) / "file"
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try:
    if {library!r} == "torch":
        torch.save({{"a": torch.zeros(100_000)}}, place)
    else:
        vocabulary = {{str(n): n for n in range(5000)}}
        tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary)).save(str(place))
except Exception as error:
    print(sentence_of(error))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    said = {
        "tokenizers": "a file or folder: File too large; raise the limit on file sizes",
        "torch": "a file could not be written whole: the disk is full, or files may not be so",
    }
    assert done.stdout.startswith(said[library]), done.stdout + done.stderr


def test_what_a_pipe_cannot_do_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    said = sentence_of(raised(lambda: (tmp_path / "pipe").open("a+")))
    assert said is not None
    assert "not seekable" in said


def test_little_memory_is_told() -> None:
    assert "out of memory" in str(sentence_of(MemoryError()))
    full = pa.lib.ArrowMemoryError("malloc of size 1 failed")
    assert "out of memory" in str(sentence_of(full))
    assert "no further thread" in str(sentence_of(RuntimeError("can't start new thread")))


@pytest.mark.parametrize("library", ["bitsandbytes", "accelerate", "gptqmodel", "flash_attn"])
def test_what_quantised_weights_need_may_fail_inside_of_it(tmp_path: Path, library: str) -> None:
    """As bitsandbytes does where config.json says 4 bits and the weights have more."""
    place = tmp_path / "site-packages" / library / "layers.py"
    code = compile("def forward():\n    assert False", str(place), "exec")
    names: dict[str, Any] = {}
    exec(code, names)
    said = str(sentence_of(raised(names["forward"])))
    assert said.startswith(f"{library}: AssertionError: ")


def test_a_bug_of_ours_is_none_of_the_world() -> None:
    def ours() -> None:
        next(iter(()))

    assert sentence_of(raised(ours)) is None
    assert sentence_of(ValueError("ours")) is None


def test_a_group_of_tasks_is_unwrapped() -> None:
    inner = BaseExceptionGroup("tasks", [KeyboardInterrupt()])
    assert is_interrupt(BaseExceptionGroup("tasks", [inner]))
    full = OSError(errno.ENOSPC, "No space left on device", "disk")
    group = ExceptionGroup("tasks", [ExceptionGroup("more", [full])])
    assert not is_interrupt(group)
    assert str(sentence_of(group)).startswith("disk: No space left on device")


@pytest.mark.parametrize("text", ["x = " + "[" * 5000, "x = " + "1" * 5000, "x = \x00"])
def test_toml_without_end_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "deep.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"deep\.toml: not TOML"):
        load_recipe(path)


@pytest.mark.parametrize("text", ["a." * 3000 + "b = 1", "[ingest]\nx = " + "[" * 200 + "]" * 200])
def test_settings_that_nest_without_end_are_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "deep.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"deep\.toml: settings are nested more than 100 deep"):
        load_recipe(path)


@pytest.mark.parametrize("name", ["../x", "/abs", "a/b", ".hidden", "a\x1bb", "x" * 300])
def test_the_name_of_a_recipe_leads_to_no_other_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / "named.toml"
    path.write_text(f'name = {json.dumps(name)}\ndescription = "d"\nhardware = "h"\n')
    with pytest.raises(ConfigError, match="cannot name a folder under runs/"):
        load_recipe(path)


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-", "| true", ""])
def test_closed_and_ascii_outputs_make_no_traceback(tmp_path: Path, closed: str) -> None:
    recipe = tmp_path / "Früchte \x1b[31m.toml"
    recipe.write_text("[")
    command = f'"{sys.executable}" -m pipeline validate -r "$RECIPE" {closed}'
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    environment = os.environ | ascii_only | {"RECIPE": str(recipe)}
    done = subprocess.run(["sh", "-c", command], capture_output=True, env=environment, timeout=120)
    assert b"Traceback" not in done.stderr
    assert b"\x1b" not in done.stderr
    if not closed:
        assert done.returncode == 2
        assert done.stderr.startswith(b"error: ")
        assert done.stderr.isascii()


def test_a_reader_that_has_left_is_told(tmp_path: Path) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "pipeline", "explain", "train.loss.beta"]
    with os.fdopen(writes, "w") as nobody:
        done = subprocess.run(command, stdout=nobody, stderr=subprocess.PIPE, text=True)
    assert done.stderr == "error: stdout: Broken pipe; whoever read the output has left\n"
    assert done.returncode == 2
