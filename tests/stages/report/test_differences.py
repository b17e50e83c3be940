"""Words that only one of two texts has are marked; nothing else changes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape

from evals.safe_text import markdown, visible
from stages.report.page.differences import marked


def unmarked(markup: object) -> str:
    return str(markup).replace("<mark>", "").replace("</mark>", "")


def test_words_of_one_side_alone_are_marked() -> None:
    first, second = marked("The cat sat on a mat.", "The dog sat on a red mat.")
    assert str(first) == "The <mark>cat</mark> sat on a mat."
    assert str(second) == "The <mark>dog</mark> sat on a <mark>red </mark>mat."


@pytest.mark.parametrize(
    ("first", "second"),
    [("one two three", "vier fünf sechs"), ("a " * 2000, "a " * 1999), ("", "x")],
)
def test_texts_that_share_little_or_are_long_are_left_alone(first: str, second: str) -> None:
    assert marked(first, second) == (escape(first), escape(second))


@given(st.text(max_size=80), st.text(max_size=80))
def test_the_text_is_what_it_was(first: str, second: str) -> None:
    for made, text in zip(marked(first, second), (first, second), strict=True):
        assert unmarked(made) == str(visible(text))


@given(
    st.text(max_size=60), st.sampled_from(["{}", "[{}](javascript:{})", "```{}\n{}\n```", "# {}"])
)
def test_markdown_has_no_attribute_of_anybody(text: str, form: str) -> None:
    made = str(markdown(form.replace("{}", text)))
    tags = re.findall(r"<([^>]*)>", made)
    allowed = {'span class="link"', 'span class="control"', 'ol start="'}
    for tag in tags:
        plain = " " not in tag.rstrip(" /")
        assert (
            plain
            or tag in allowed
            or re.fullmatch(r'ol start="\d+"|t[hd] style="text-align:\w+"', tag)
        )
