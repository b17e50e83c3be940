"""The page in a real browser: verdicts found by typing and clicking, curves pointed at, printed."""

import base64
import csv
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from schemas.parquet import write_table
from schemas.tables import COMPARISONS, VERDICTS
from stages.report import STAGE
from stages.report.config import ReportConfig
from tests.fixtures.finished_runs import FakeRun, finished_run, verdict, write_evaluation
from tests.fixtures.headless import chromium
from tests.fixtures.patience import PATIENCE

pytestmark = pytest.mark.browser
CATEGORIES = ("cooking", "travel", None)
"""Of the comparisons in turn; None has none."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every kind of outcome, whose people disagree with the judge in places."""
    run = finished_run(tmp_path_factory.mktemp("run"))
    said = "answer {} of all that there are"
    texts = [
        (f"prompt {i}", f"the plain {said.format(i)}", f"my fine {said.format('x ' * i)}")
        for i in range(24)
    ]
    write_evaluation(run, texts)
    folder = run.inputs["evaluate"]
    compared = pq.read_table(folder / COMPARISONS.file_name).to_pylist()
    verdicts = []
    for i, row in enumerate(compared):
        row["category"] = CATEGORIES[i % 3]
        # 0: the policy wins; 1: the baseline; 2: a tie; 3: split; 4: unscored.
        first, second = ((0.9, 0.8), (0.1, 0.2), (0.5, 0.5), (0.9, 0.3), (0.9, None))[i % 5]
        reason = "low_label_mass" if second is None else None
        own = [verdict(row, "preference_model", "ab", first)]
        own.append(verdict(row, "preference_model", "ba", second, reason))
        if i % 5 == 2:
            own = [one | {"verdict": "Tie"} for one in own]
        verdicts += own + [verdict(row, "rule:food", order, 0.9) for order in ("ab", "ba")]
    write_table(folder / COMPARISONS.file_name, COMPARISONS, compared)
    write_table(folder / VERDICTS.file_name, VERDICTS, verdicts)
    audited(run, [row["comparison_id"] for row in compared[:4]])
    context = run.context()
    STAGE.run(ReportConfig(title="Tried", world="food"), context)
    return context.output / "index.html"


def audited(run: FakeRun, ids: list[str]) -> None:
    """People who like the baseline's answer best, always."""
    path = run.root / "audit" / "labels.jsonl"
    path.parent.mkdir()
    lines = [
        json.dumps({"comparison_id": one, "annotator": "ann", "label": "B", "seconds": 1.0})
        for one in ids
    ]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("saved")


@pytest.fixture(scope="module")
def browser(saved: Path) -> Iterator[Chrome]:
    with chromium(saved) as opened:
        yield opened


@pytest.fixture
def opened(browser: Chrome, page: Path) -> Chrome:
    browser.get(page.as_uri())
    return browser


def listed(browser: Chrome) -> list[str]:
    """The prompts of the comparisons that are to be seen, in their order."""
    return [
        re.findall(r"prompt \d+", head)[0]
        for head in browser.execute_script(
            "return [...document.querySelectorAll('#verdicts .v > summary')]"
            ".filter((head) => head.checkVisibility()).map((head) => head.textContent)"
        )
    ]


def by_outcome(*kinds: int) -> set[str]:
    return {f"prompt {i}" for i in range(24) if i % 5 in kinds}


def chosen(browser: Chrome, label: str) -> Select:
    return Select(browser.find_element(By.CSS_SELECTOR, f"#verdicts select[aria-label='{label}']"))


def test_outcomes_are_clicked(opened: Chrome) -> None:
    assert len(listed(opened)) == 24
    outcomes = ("policy", "baseline", "tie", "split", "unscored")
    for kind, outcome in enumerate(outcomes):
        opened.find_element(By.ID, f"show-{outcome}").click()
        assert set(listed(opened)) == by_outcome(kind)
    opened.find_element(By.ID, "show-all").click()
    assert len(listed(opened)) == 24


def test_what_disagrees_and_lengths_and_categories_are_chosen(opened: Chrome) -> None:
    which = chosen(opened, "Which verdicts")
    which.select_by_visible_text("orders disagree")
    assert set(listed(opened)) == by_outcome(3)
    which.select_by_visible_text("judges disagree")
    assert set(listed(opened)) == by_outcome(1, 2)
    which.select_by_visible_text("judge and people disagree")
    assert set(listed(opened)) == {"prompt 0", "prompt 2", "prompt 3"}
    which.select_by_visible_text("policy shorter")
    shorter = {"prompt 0", "prompt 1"}
    assert set(listed(opened)) == shorter
    which.select_by_visible_text("policy longer")
    assert not shorter & set(listed(opened))
    which.select_by_visible_text("all verdicts")
    chosen(opened, "Category").select_by_visible_text("travel")
    assert set(listed(opened)) == {f"prompt {i}" for i in range(1, 24, 3)}


def test_texts_are_searched_and_sorted(opened: Chrome) -> None:
    search = opened.find_element(By.CSS_SELECTOR, "#verdicts input[type=search]")
    search.send_keys("ANSWER 17")
    assert listed(opened) == ["prompt 17"]
    assert "1 of 24" in opened.find_element(By.CSS_SELECTOR, "#verdicts [role=status]").text
    search.send_keys(Keys.BACKSPACE * 9)
    order = chosen(opened, "Order")
    order.select_by_visible_text("policy longer first")
    assert listed(opened)[0] == "prompt 23"
    order.select_by_visible_text("policy shorter first")
    assert listed(opened)[-1] == "prompt 23"
    order.select_by_visible_text("policy's score, low first")
    assert set(listed(opened)[:5]) == by_outcome(1)
    order.select_by_visible_text("orders disagree most first")
    assert set(listed(opened)[:5]) == by_outcome(3)
    order.select_by_visible_text("by category")
    named = [CATEGORIES[int(one.split()[1]) % 3] or "" for one in listed(opened)]
    assert named == sorted(named)


def test_an_opened_comparison_marks_the_words_that_differ(opened: Chrome) -> None:
    opened.find_element(By.ID, "show-split").click()
    first = opened.find_element(By.CSS_SELECTOR, ".v.split")
    first.find_element(By.TAG_NAME, "summary").click()
    marked = [m.text for m in first.find_elements(By.TAG_NAME, "mark")]
    assert {"the", "plain", "my", "fine"} <= {*marked}
    assert not {"answer", "there"} & {*marked}
    assert first.find_element(By.CSS_SELECTOR, "table").is_displayed()


def test_a_curve_says_its_value_to_whoever_points_at_it(opened: Chrome) -> None:
    points = opened.find_elements(By.CSS_SELECTOR, "#training .hints circle")
    ActionChains(opened).move_to_element(points[len(points) // 2]).perform()
    under = opened.execute_script("return document.querySelectorAll(':hover')")
    title = under[-1].find_element(By.TAG_NAME, "title").get_attribute("textContent")
    assert re.fullmatch(r"[\d,]+: .*\d", title or "")


def test_every_table_is_saved_as_csv(opened: Chrome, saved: Path) -> None:
    tables = opened.find_elements(By.CSS_SELECTOR, "main table, header table")
    buttons = opened.find_elements(By.CSS_SELECTOR, "button[title='Save this table as CSV']")
    assert len(tables) == len(buttons) > 20
    opened.find_element(By.CSS_SELECTOR, "#win .csv").click()
    rows = list(csv.reader(read_when_there(saved / "win.csv").splitlines()))
    assert rows[0] == ["By", "the judge", "the true rule"]
    assert rows[7][0] == "Prompts"
    assert rows[7][1:] == ["240", "240"]
    opened.find_element(By.ID, "show-tie").click()
    opened.find_element(By.XPATH, "//button[.='CSV of these']").click()
    found = list(csv.DictReader(read_when_there(saved / "comparisons.csv").splitlines()))
    assert {row["prompt"] for row in found} == by_outcome(2)
    assert {row["outcome"] for row in found} == {"tie"}


def read_when_there(path: Path) -> str:
    until(path.exists)
    return path.read_text(encoding="utf-8")


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def test_no_width_and_no_scheme_hides_anything(opened: Chrome) -> None:
    for width in (390, 768, 1200):
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        wide = opened.execute_script("return document.documentElement.scrollWidth")
        assert wide <= width
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    grounds = []
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        style = "getComputedStyle(document.body).backgroundColor"
        grounds.append(opened.execute_script(f"return {style}"))
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert len(set(grounds)) == 2


def test_it_prints_on_at_most_ten_pages(opened: Chrome) -> None:
    paper = {"paperWidth": 8.27, "paperHeight": 11.69, "printBackground": True}
    printed = base64.b64decode(opened.execute_cdp_cmd("Page.printToPDF", paper)["data"])
    assert 1 < len(re.findall(rb"/Type\s*/Page[^s]", printed)) <= 10


def test_the_policy_of_the_page_lets_no_other_script_run(opened: Chrome) -> None:
    opened.execute_cdp_cmd("Runtime.enable", {})
    said = opened.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        "document.body.append(s); return window.ran === undefined"
    )
    assert said
    logged: list[dict[str, str]] = opened.get_log("browser")  # type: ignore[no-untyped-call]
    errors = [line["message"] for line in logged if line["level"] == "SEVERE"]
    assert len(errors) == 1
    assert "Content Security Policy" in errors[0]


def test_without_scripts_everything_can_be_read(page: Path) -> None:
    with chromium(scripts=False) as plain:
        plain.get(page.as_uri())
        assert len(plain.find_elements(By.CSS_SELECTOR, ".csv, .tools")) == 0
        assert len(listed(plain)) == 24
        plain.find_element(By.ID, "show-tie").click()  # the style sheet's own filter
        assert set(listed(plain)) == by_outcome(2)
        first = plain.find_element(By.CSS_SELECTOR, ".v.tie")
        first.find_element(By.TAG_NAME, "summary").click()
        assert first.find_element(By.CSS_SELECTOR, ".side.policy .text").is_displayed()
