"""Audits in other tools: pairs as Label Studio and Argilla import them, their exports as labels."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from evals.audit.labels import LABEL_VALUES, HumanLabel, LabelValue
from evals.audit.pairs import AuditPair
from evals.files.external_files import read_json
from schemas.errors import DataError
from schemas.labels import Messages

Tool = Literal["label-studio", "argilla"]
QUESTION = "preference"

# What either tool calls a side, in any of the spellings that their templates use.
_SPELLINGS: dict[str, LabelValue] = {
    **dict.fromkeys(("a", "left", "completion_a", "response_a", "answer_a", "first"), "A"),
    **dict.fromkeys(("b", "right", "completion_b", "response_b", "answer_b", "second"), "B"),
    **dict.fromkeys(("tie", "equal", "both", "same", "neutral"), "tie"),
    **dict.fromkeys(("skip", "discard", "neither"), "skip"),
}

LABEL_STUDIO_VIEW = f"""<View>
  <Text name="prompt" value="$prompt"/>
  <Text name="a" value="$a"/>
  <Text name="b" value="$b"/>
  <Choices name="{QUESTION}" toName="prompt" choice="single" required="true">
    <Choice value="A"/><Choice value="B"/><Choice value="tie"/><Choice value="skip"/>
  </Choices>
  <TextArea name="note" toName="prompt"/>
</View>
"""


def write_pairs(pairs: Sequence[AuditPair], tool: Tool, path: Path) -> None:
    """Write pairs as a JSON file that the tool imports; the sides are named A and B there."""
    make = _label_studio_task if tool == "label-studio" else _argilla_record
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(
        json.dumps([make(pair) for pair in pairs], ensure_ascii=False, indent=1) + "\n",
        encoding="utf-8",
    )
    aside.replace(path)


def read_answers(path: Path, known: Sequence[AuditPair]) -> list[HumanLabel]:
    """Labels from the export of either tool; which one, the file says.

    Args:
        path: Label Studio's JSON export, or Argilla's records as JSON.
        known: the pairs of the audit.

    Raises:
        MissingInputError, DataError: not such an export, or it names a pair or answer that is
            not known; the message names the entry.
    """
    entries = read_json(path)
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise DataError(f"{path}: not a list of tasks or records; export as JSON")
    pairs = {pair.comparison_id: pair for pair in known}
    labels = [
        label
        for number, entry in enumerate(entries)
        for label in _labels(entry, f"{path}: entry {number}", pairs)
    ]
    if not labels:
        raise DataError(f"{path}: holds no answers; was it exported before anybody answered?")
    return labels


def _label_studio_task(pair: AuditPair) -> dict[str, Any]:
    return {"data": {**_ids(pair), **_texts(pair)}}


def _argilla_record(pair: AuditPair) -> dict[str, Any]:
    return {"id": pair.comparison_id, "fields": _texts(pair), "metadata": _ids(pair)}


def _ids(pair: AuditPair) -> dict[str, Any]:
    found = {"comparison_id": pair.comparison_id, "prompt_id": pair.prompt_id}
    return found if pair.probability is None else {**found, "probability": pair.probability}


def _texts(pair: AuditPair) -> dict[str, str]:
    return {
        "prompt": _text(pair.prompt, roles=True),
        "a": _text(pair.completion_a, roles=len(pair.completion_a) > 1),
        "b": _text(pair.completion_b, roles=len(pair.completion_b) > 1),
    }


def _text(turns: Messages, *, roles: bool) -> str:
    return "\n\n".join(
        f"{turn['role']}: {turn['content'] or ''}" if roles else (turn["content"] or "")
        for turn in turns
    )


def _labels(
    entry: Mapping[str, Any], where: str, pairs: Mapping[str, AuditPair]
) -> Iterator[HumanLabel]:
    said = list(_said(entry))
    if not said:
        return
    key = _key(entry)
    if key not in pairs:
        raise DataError(
            f"{where}: comparison {key!r} is none of this audit's; give the run or file that the "
            "pairs were written from"
        )
    pair = pairs[key]
    for annotator, value, seconds, note in said:
        label = _SPELLINGS.get(str(value).strip().lower())
        if label is None:
            raise DataError(
                f"{where}: answer {value!r} is none of {', '.join(LABEL_VALUES)}, left, right"
            )
        yield HumanLabel(key, annotator, label, seconds, note, pair.prompt_id, pair.probability)


def _key(entry: Mapping[str, Any]) -> str:
    for holder in ("data", "metadata"):
        found = entry.get(holder)
        if isinstance(found, dict) and "comparison_id" in found:
            return str(found["comparison_id"])
    return str(entry.get("id", ""))


def _said(entry: Mapping[str, Any]) -> Iterator[tuple[str, Any, float, str]]:
    """(annotator, answer, seconds, note) of each person who answered."""
    for annotation in entry.get("annotations") or ():
        by = annotation.get("completed_by", "")
        name = str(by.get("email") or by.get("id")) if isinstance(by, dict) else str(by)
        seconds = float(annotation.get("lead_time") or 0.0)
        results = [r.get("value", {}) for r in annotation.get("result") or ()]
        texts = [v["text"] for v in results if isinstance(v.get("text"), list)]
        notes = [" ".join(text) for text in texts]
        if annotation.get("was_cancelled"):
            yield name, "skip", seconds, ""
            continue
        for value in results:
            answer = (value.get("choices") or [value.get("selected")])[0]
            if answer is not None:
                yield name, answer, seconds, " ".join(notes)
    responses = entry.get("responses")
    if isinstance(responses, dict):
        for response in responses.get(QUESTION) or ():
            if response.get("value") is not None:
                yield str(response.get("user_id", "")), response["value"], 0.0, ""
    elif isinstance(responses, list):  # Argilla 1: one response a person, all questions in it
        for response in responses:
            values = cast("dict[str, Any]", response.get("values") or {})
            if response.get("status") == "discarded":
                yield str(response.get("user_id", "")), "skip", 0.0, ""
            elif QUESTION in values:
                yield str(response.get("user_id", "")), values[QUESTION]["value"], 0.0, ""
