"""The audit's page in a real browser: typed, clicked, closed and opened again."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.fixtures.audits import a_run
from tests.fixtures.command_line import command, environment
from tests.fixtures.headless import chromium
from tests.fixtures.patience import PATIENCE

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    run = a_run(tmp_path / "run")
    process = subprocess.Popen(
        command("audit", run, "--port", 0), env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]
    yield lines[1].strip(), run / "audit" / "labels.jsonl"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)


def until(true: Callable[[], object]) -> None:
    """Wait; while one page gives way to the next, nothing on it is true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(StaleElementReferenceException, NoSuchElementException):
            if true():
                return
        time.sleep(0.05)
    pytest.fail("it did not come true")


def labels(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def place(browser: Chrome) -> str:
    return browser.find_element(By.ID, "place").text


def press(browser: Chrome, keys: str) -> None:
    until(lambda: browser.execute_script("return document.readyState") == "complete")
    browser.find_element(By.TAG_NAME, "body").send_keys(keys)


def test_a_person_judges_by_typing_and_clicking(browser: Chrome, served: tuple[str, Path]) -> None:
    address, path = served
    browser.get(address)
    browser.find_element(By.ID, "annotator").send_keys("ann" + Keys.ENTER)
    until(lambda: place(browser) == "1 of 6")
    assert browser.title != "taken"
    for name in ("policy", "baseline"):
        assert name not in browser.find_element(By.TAG_NAME, "body").text
    first = browser.find_element(By.ID, "first").text
    press(browser, "1")
    until(lambda: place(browser) == "2 of 6")
    assert len(labels(path)) == 1
    assert labels(path)[0]["label"] in ("A", "B")

    press(browser, "n")
    browser.switch_to.active_element.send_keys("1 is too long" + Keys.ENTER)
    assert place(browser) == "2 of 6"  # a digit in a note is a note
    press(browser, "t")
    until(lambda: place(browser) == "3 of 6")
    assert (labels(path)[1]["label"], labels(path)[1]["note"]) == ("tie", "1 is too long")

    browser.find_element(By.CSS_SELECTOR, "button[value=skip]").click()
    until(lambda: place(browser) == "4 of 6")
    press(browser, "u")
    until(lambda: place(browser) == "3 of 6")
    press(browser, "u")
    press_when = [place(browser)]
    until(lambda: place(browser) in ("2 of 6", *press_when))
    until(lambda: len(labels(path)) == 1)
    press(browser, "u")
    until(lambda: labels(path) == [])
    until(lambda: browser.find_element(By.ID, "first").text == first)
    for expected in (*(f"{k} of 6" for k in range(2, 7)), None):
        press(browser, "2")
        if expected is not None:
            until(lambda wanted=expected: place(browser) == wanted)  # type: ignore[misc]
    until(lambda: "last pair" in browser.find_element(By.TAG_NAME, "body").text)
    assert len(labels(path)) == 6

    browser.get(f"{address}judge?annotator=bob")
    until(lambda: place(browser) == "1 of 6")
    said: list[dict[str, str]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    sought = [entry for entry in said if entry["level"] == "SEVERE"]
    assert [entry for entry in sought if "favicon" not in entry["message"]] == []


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_nothing_is_cut_off(
    browser: Chrome, served: tuple[str, Path], width: int, height: int
) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.get(f"{served[0]}judge?annotator=ann")
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width
