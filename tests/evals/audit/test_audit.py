"""Audits without a browser: what is drawn, shown, stored and exchanged, and who is let in."""

import json
import multiprocessing
from collections import Counter
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from evals.audit.app import Audit, application
from evals.audit.exchange import read_answers, write_pairs
from evals.audit.labels import HumanLabel, LabelFile, majority
from evals.audit.pairs import (
    AuditPair,
    find_comparisons,
    inclusion_probabilities,
    open_plan,
)
from evals.audit.show import shown
from evals.safe_text import markdown
from schemas.errors import DataError, MissingInputError
from schemas.parquet import read_rows
from schemas.tables import COMPARISONS
from tests.fixtures.audits import HARMFUL, a_run, row

PORT = 8123
BASE = f"http://127.0.0.1:{PORT}"


def pairs_of(run: Path, n: int = 6) -> list[AuditPair]:
    return open_plan(find_comparisons(run), run / "audit", n, "random", 0)


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    run = a_run(tmp_path / "run")
    labels = LabelFile(run / "audit" / "labels.jsonl")
    return Audit(pairs_of(run), labels, 0, "prefline win-rate ...", PORT)


@pytest.fixture
def client(audit: Audit) -> TestClient:
    return TestClient(application(audit), base_url=BASE, follow_redirects=True)


def answer(client: TestClient, audit: Audit, choice: str, **more: str) -> str:
    left, _ = audit.progress("ann")
    form = {"secret": audit.secret, "annotator": "ann", "choice": choice}
    done = client.post("/label", data={**form, "comparison_id": left[0].comparison_id, **more})
    assert done.status_code == 200, done.text
    return left[0].comparison_id


# What is drawn


def test_the_same_pairs_come_back_and_others_comparisons_are_refused(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", count=20)
    first = pairs_of(run, n=5)
    assert pairs_of(run, n=9) == first
    assert len({pair.comparison_id for pair in first}) == 5
    a_run(run, count=21)
    with pytest.raises(DataError, match="drawn from other comparisons"):
        pairs_of(run)


def test_nothing_to_judge_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="prefline evaluate"):
        find_comparisons(tmp_path)


def test_probabilities_follow_weights_and_sum_to_n() -> None:
    found = inclusion_probabilities([1.0, 1.0, 2.0, 100.0], 2)
    assert found == pytest.approx([0.25, 0.25, 0.5, 1.0])
    assert inclusion_probabilities([1.0, 3.0], 5) == [1.0, 1.0]


# What is shown


def test_sides_are_dealt_by_chance_and_stay(tmp_path: Path) -> None:
    pair = pairs_of(a_run(tmp_path / "run"))[1]
    dealt = Counter(shown(pair, f"person {n}", 0).exchanged for n in range(200))
    assert 70 < dealt[True] < 130
    one = shown(pair, "ann", 0)
    assert one.exchanged == shown(pair, "ann", 0).exchanged
    assert one.label("first") == ("B" if one.exchanged else "A")
    assert one.label("second") == ("A" if one.exchanged else "B")


def test_texts_are_text() -> None:
    markup = markdown(HARMFUL)
    assert "<script" not in markup
    assert "<img" not in markup
    assert "href" not in markup
    assert "U+202E" in markup
    assert "\u202e" not in markup
    code = markdown("```py\n<b>x</b>\n```")
    assert "<pre><code>&lt;b&gt;x&lt;/b&gt;\n</code></pre>" in code


# What is stored


def test_every_answer_is_on_disk_as_the_table_has_the_sides(
    client: TestClient, audit: Audit
) -> None:
    left, _ = audit.progress("ann")
    client.get("/judge", params={"annotator": "ann"})
    said = answer(client, audit, "first", note="clearer")
    line = json.loads(audit.labels.path.read_text())
    assert line["comparison_id"] == said
    assert line["label"] == shown(left[0], "ann", 0).label("first")
    assert line["note"] == "clearer"
    assert line["annotator"] == "ann"
    assert line["seconds"] >= 0
    assert "probability" not in line


def test_undo_brings_the_pair_back(client: TestClient, audit: Audit) -> None:
    first = answer(client, audit, "tie")
    second = answer(client, audit, "skip")
    form = {"secret": audit.secret, "annotator": "ann"}
    assert client.post("/undo", data=form).status_code == 200
    assert [label.comparison_id for label in audit.labels.read()] == [first]
    assert audit.progress("ann")[0][0].comparison_id == second
    client.post("/undo", data=form)
    client.post("/undo", data=form)  # nothing is left to take back
    assert audit.labels.read() == []


def test_people_go_on_where_each_of_them_was(client: TestClient, audit: Audit) -> None:
    for _ in audit.pairs:
        answer(client, audit, "second")
    assert "That was the last pair" in client.get("/judge", params={"annotator": "ann"}).text
    assert "1 of 6" in client.get("/judge", params={"annotator": "bob"}).text
    again = Audit(audit.pairs, audit.labels, 0, "", PORT)
    assert again.progress("ann") == ([], 6)


def _add_many(path: Path, name: str) -> None:
    for number in range(25):
        LabelFile(path).add(HumanLabel(f"c{number}", name, "A", 1.0))


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    writers = [
        multiprocessing.get_context("fork").Process(target=_add_many, args=(path, f"p{n}"))
        for n in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(LabelFile(path).read()) == 100


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"comparison_id": "c", "annotator": "a", "label": "A", "seconds": 1}\n{"com')
    with pytest.raises(DataError, match=r"labels\.jsonl:2: not a label"):
        LabelFile(path).read()
    path.write_text('{"comparison_id": "c", "annotator": "a", "label": "C", "seconds": 1}\n')
    with pytest.raises(DataError, match=r"labels\.jsonl:1: label 'C'"):
        LabelFile(path).read()


def test_most_people_decide() -> None:
    said = [("c", "A"), ("c", "A"), ("c", "B"), ("d", "A"), ("d", "B"), ("e", "skip")]
    labels = [HumanLabel(key, str(n), label, 0.0) for n, (key, label) in enumerate(said)]  # type: ignore[arg-type]
    assert majority(labels) == {"c": "A", "d": "Tie"}


# Who is let in


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": f"127.0.0.1.evil.example:{PORT}"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    ],
)
def test_other_sites_are_refused(client: TestClient, audit: Audit, headers: dict[str, str]) -> None:
    assert client.get("/judge?annotator=ann", headers=headers).status_code == 403
    form = {"secret": audit.secret, "annotator": "ann", "choice": "tie", "comparison_id": "x"}
    assert client.post("/label", data=form, headers=headers).status_code == 403
    assert audit.labels.read() == []


def test_a_form_of_another_page_is_refused(client: TestClient, audit: Audit) -> None:
    form = {"annotator": "ann", "choice": "tie", "comparison_id": audit.pairs[0].comparison_id}
    for secret in ({}, {"secret": "guessed"}):
        assert client.post("/label", data={**form, **secret}).status_code == 403
        assert client.post("/undo", data={**form, **secret}).status_code == 403
    big = {**form, "secret": audit.secret, "note": "x" * 100_000}
    assert client.post("/label", data=big).status_code == 403
    assert audit.labels.read() == []


def test_pages_load_nothing_from_elsewhere(client: TestClient) -> None:
    for path in ("/", "/judge?annotator=ann", "/audit.css", "/audit.js"):
        got = client.get(path)
        assert got.status_code == 200
        assert "default-src 'none'" in got.headers["content-security-policy"]
        assert "http://" not in got.text.replace("http://127.0.0.1:9/x.png", "")


def test_an_unknown_pair_or_choice_is_no_answer(client: TestClient, audit: Audit) -> None:
    form = {"secret": audit.secret, "annotator": "ann", "choice": "best"}
    known = audit.pairs[0].comparison_id
    assert client.post("/label", data={**form, "comparison_id": known}).status_code == 400
    assert client.post("/label", data={**form, "comparison_id": "no"}).status_code == 400
    assert audit.labels.read() == []


# Other tools


def test_pairs_go_to_label_studio_and_answers_come_back(tmp_path: Path) -> None:
    pairs = pairs_of(a_run(tmp_path / "run"))
    write_pairs(pairs, "label-studio", tmp_path / "tasks.json")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert tasks[0]["data"]["comparison_id"] == pairs[0].comparison_id
    said = {"value": {"choices": ["B"]}}, {"value": {"text": ["too", "long"]}}
    tasks[0]["annotations"] = [{"completed_by": {"email": "ann"}, "lead_time": 4.5, "result": said}]
    tasks[1]["annotations"] = [{"completed_by": 7, "result": [{"value": {"selected": "left"}}]}]
    tasks[2]["annotations"] = [{"completed_by": 7, "was_cancelled": True, "result": []}]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    labels = read_answers(tmp_path / "export.json", pairs)
    assert [(x.annotator, x.label, x.seconds, x.note) for x in labels] == [
        ("ann", "B", 4.5, "too long"),
        ("7", "A", 0.0, ""),
        ("7", "skip", 0.0, ""),
    ]


def test_pairs_go_to_argilla_and_answers_come_back(tmp_path: Path) -> None:
    pairs = pairs_of(a_run(tmp_path / "run"))
    write_pairs(pairs, "argilla", tmp_path / "records.json")
    records = json.loads((tmp_path / "records.json").read_text())
    records[0]["responses"] = {"preference": [{"value": "tie", "user_id": "u1"}]}
    records[1]["responses"] = [
        {"user_id": "u2", "status": "submitted", "values": {"preference": {"value": "B"}}}
    ]
    (tmp_path / "export.json").write_text(json.dumps(records))
    labels = read_answers(tmp_path / "export.json", pairs)
    assert [(x.annotator, x.label) for x in labels] == [("u1", "tie"), ("u2", "B")]


def test_a_foreign_export_is_refused(tmp_path: Path) -> None:
    pairs = pairs_of(a_run(tmp_path / "run"))
    path = tmp_path / "export.json"
    entry = {"id": "no", "responses": {"preference": [{"value": "A", "user_id": "u"}]}}
    for content, words in [
        ({}, "not a list"),
        ([], "no answers"),
        ([entry], "none of this audit's"),
        (
            [{**entry, "id": pairs[0].comparison_id, "responses": {"preference": [{"value": 9}]}}],
            "answer 9 is none of",
        ),
    ]:
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=words):
            read_answers(path, pairs)


def test_rows_are_unlabelled_until_somebody_has_judged(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    rows = read_rows(find_comparisons(run), COMPARISONS)
    assert {r["label"] for r in rows} == {None}
    assert row(1)["comparison_id"] in {r["comparison_id"] for r in rows}
