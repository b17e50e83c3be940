"""Text that strangers and models wrote, made safe to show on a page."""

import re
import unicodedata

from markdown_it import MarkdownIt
from markupsafe import Markup, escape

# Joiners shape emoji and scripts (Persian, Hindi): they are text, not tricks.
_HARMLESS_FORMAT = {"\u200c", "\u200d", "\u00ad"}


def is_deceptive(character: str) -> bool:
    """Whether a character is invisible or reorders its neighbours: controls, bidi, tags, ...

    Line feed and tab are ordinary; so are the joiners that emoji and some scripts need.
    """
    if character in "\n\t" or character in _HARMLESS_FORMAT:
        return False
    if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
        return True
    code = ord(character)
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def visible(text: object) -> Markup:
    """Escape a text for HTML and show each deceptive character as its code point."""
    parts: list[str] = []
    for character in str(text):
        if is_deceptive(character):
            parts.append(f'<span class="control">U+{ord(character):04X}</span>')
        else:
            parts.append(str(escape(character)))
    return Markup("".join(parts))


def plain(text: object) -> str:
    """The same without markup, for attributes, SVG titles and Markdown."""
    return "".join(f"[U+{ord(c):04X}]" if is_deceptive(c) else c for c in str(text))


# Raw HTML is text, links lead nowhere and pictures are not fetched: a page that asks nobody.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "autolink"])
# Two noncharacters, which stand in no text here: they are deceptive themselves.
_CODE_POINT = re.compile("\ufdd0([0-9A-F]+)\ufdd1")


def markdown(text: str) -> Markup:
    """Markdown as markup that holds no script, picture, link, attribute or hidden character."""
    marked = "".join(f"\ufdd0{ord(c):04X}\ufdd1" if is_deceptive(c) else c for c in text)
    tokens = _MARKDOWN.parse(marked)
    for token in tokens:
        token.info = ""  # a language would become an attribute
        for inner in token.children or ():
            if inner.type in ("link_open", "link_close"):
                inner.tag, inner.attrs = "span", {"class": "link"} if inner.nesting == 1 else {}
    rendered = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
    return Markup(_CODE_POINT.sub(r'<span class="control">U+\1</span>', rendered))
