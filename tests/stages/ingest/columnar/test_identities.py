"""Whoever changes sides takes along all that is said of a side."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from schemas.labels import Message, Preference
from stages.ingest.examples import Annotation, ComparisonExample
from stages.ingest.frames.examples import examples_frame
from stages.ingest.frames.identities import with_dealt_sides, with_ids_of_texts, with_row_ids
from tests.fixtures.plain_ingest import comparison_row

WORDS = st.text("abé🍕\n|:", min_size=1, max_size=3)
ANNOTATIONS = st.builds(
    Annotation,
    st.sampled_from(Preference),
    st.none() | st.sampled_from([0.0, 1.0]),
    st.none() | WORDS,
    st.none() | WORDS,
    st.none() | WORDS,
    st.none() | WORDS,
)


def said(role: str, text: str) -> list[Message]:
    return [{"role": role, "content": text}]


EXAMPLES = st.builds(
    lambda prompt, a, b, label, annotations, first: ComparisonExample(
        said("user", prompt),
        said("assistant", a),
        said("assistant", b),
        label,
        annotations=annotations,
        chosen_first=first,
    ),
    WORDS,
    WORDS,
    WORDS,
    st.sampled_from(Preference),
    st.lists(ANNOTATIONS, max_size=3),
    st.booleans(),
)


@given(examples=st.lists(EXAMPLES, min_size=1, max_size=5), seed=st.integers(0, 9))
def test_sides_are_dealt_as_one_row_at_a_time(examples: list[ComparisonExample], seed: int) -> None:
    frame = with_ids_of_texts(examples_frame(list(enumerate(examples))))
    frame = with_row_ids(
        with_dealt_sides(frame.with_columns(split=pl.lit("train")), seed), derive=True
    )
    for found, example in zip(frame.to_dicts(), examples, strict=True):
        wanted = comparison_row(example, seed, fraction=0.0)
        assert found["annotations"] == wanted["annotations"]
        assert (found["label"], found["comparison_id"]) == (
            wanted["label"],
            wanted["comparison_id"],
        )
        assert found["a"] == wanted["completion_a"][0]["content"]
