"""In a notebook as people open it: a real kernel, whose event loop runs in every cell."""

import asyncio
import json
import signal
import threading
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

from prefline.notebooks import outside_event_loops
from tests.fixtures.chaos_server import chaos_server, prefers_longer
from tests.fixtures.command_line import TINY

ROOT = Path(__file__).resolve().parents[2]
LITTLE = ["sft.training.max_steps=2", "train.training.max_steps=2", "evaluate.limit=2"]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelManager]:
    """One kernel for all, as loading the libraries takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        manager = KernelManager(kernel_name="python3")
        manager.start_kernel()
    yield manager
    manager.shutdown_kernel()


def in_a_kernel(kernel: KernelManager, folder: Path, *cells: str) -> list[str]:
    """What the cells print, none of which finds names of others' cells; an error is raised."""
    begin = f"import os; os.chdir({str(folder)!r})\n%reset -f"
    notebook = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
        cells=[nbformat.v4.new_code_cell(cell) for cell in (begin, *cells)]  # type: ignore[no-untyped-call]
    )
    client = NotebookClient(notebook, timeout=600, km=kernel)
    try:
        client.execute()
    finally:
        if client.kc is not None:
            client.kc.stop_channels()
    printed = [
        [out["text"] for out in cell.outputs if out.get("name") == "stdout"]
        for cell in notebook.cells[1:]
    ]
    return ["".join(texts) for texts in printed]


def test_the_example_notebook_runs_as_it_is(kernel: KernelManager, tmp_path: Path) -> None:
    notebook = json.loads((ROOT / "docs" / "examples" / "preferences.ipynb").read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] for cell in cells)
    in_a_kernel(kernel, tmp_path, *("".join(cell["source"]) for cell in cells))


def test_served_judges_and_benchmarks_work_in_a_cell(kernel: KernelManager, tmp_path: Path) -> None:
    """Both run event loops of their own, and inspect wants widgets in a notebook."""
    with chaos_server(prefers_longer) as server:
        judge = f"openai:chaos@{server.url}"
        printed = in_a_kernel(
            kernel,
            tmp_path,
            "import asyncio, prefline as pf; assert asyncio.get_running_loop().is_running()",
            'ours = [{"instruction": "Say it.", "output": "It is said."}]\n'
            'theirs = [{"instruction": "Say it.", "output": "No."}]\n'
            f'print(pf.compare(theirs, ours, judge="{judge}")["rows"][0]["name"])',
            f'done = pf.run("{TINY}", "run", {LITTLE})\n'
            'print(len(done.summary["benchmarks"]["tasks"]))',
        )
    assert printed[1].strip() == "b"
    assert int(printed[2]) >= 2


def in_a_loop(work: Coroutine[Any, Any, None]) -> None:
    """As a kernel runs its cells: nobody but Python itself takes a Ctrl-C."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


def test_an_interrupt_reaches_the_work_which_ends_well() -> None:
    ended: list[str] = []

    @outside_event_loops
    def work() -> None:
        try:
            threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()
            while True:
                time.sleep(0.01)
        finally:
            ended.append(threading.current_thread().name)

    async def cell() -> None:
        with pytest.raises(KeyboardInterrupt):
            work()

    in_a_loop(cell())
    assert ended
    assert ended != [threading.main_thread().name]


def test_outside_a_loop_nothing_is_in_between() -> None:
    assert outside_event_loops(threading.current_thread)() is threading.current_thread()


def test_what_the_work_raises_is_raised() -> None:
    @outside_event_loops
    def work(number: int) -> int:
        return 1 // number

    async def cell() -> None:
        assert work(1) == 1
        with pytest.raises(ZeroDivisionError):
            work(0)

    in_a_loop(cell())
