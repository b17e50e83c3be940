"""Letters and signs that look like others, read as what they look like."""

import unicodedata

from schemas.patterns import late

# Cyrillic and Greek letters that are drawn like Latin ones.
_LETTERS = (
    "АВЕЅІЈКМНОРСТХУаеѕіјорсухԁԛԝһɡΑΒΕΖΗΙΚΜΝΟΡΤΥΧονιατρ",
    "ABESIJKMHOPCTXYaesijopcyxdqwhgABEZHIKMNOPTYXoviatp",
)
_SIGNS = (
    "【】〔〕［］「」『』〈〉《》‹›⟨⟩‐‑‒–—―−⁃∶꞉։׃﹕︰≫≪≻≺＝❘∣⎮ǀ│┃▏❙“”„‟″",
    '[][][]""""<><><><>--------::::::><><=||||||||"""""',
)
_LINE_BREAKS = "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_AS_IT_IS = late(r"[\x00-\x0a\x0e-\x1b\x1f-\x7f]*")


class _Table(dict[int, int]):
    """One character for one character, found out when a character is first met."""

    def __missing__(self, code: int) -> int:
        plain = unicodedata.normalize("NFKC", chr(code)) if code > 0x7F else ""
        folds = len(plain) == 1 and plain.isascii() and plain.isprintable()
        self[code] = ord(plain) if folds else code
        return self[code]


_TABLE = _Table(
    {ord(c): ord(to) for pair in (_LETTERS, _SIGNS) for c, to in zip(*pair, strict=True)}
    | dict.fromkeys(map(ord, _LINE_BREAKS), ord("\n"))
)


def fold(text: str) -> str:
    """The same text in plain letters and signs, character by character.

    Full-width and mathematical forms, Cyrillic and Greek letters that look Latin, dashes, colons
    and brackets of all scripts; every line break becomes a newline. The result has as many
    characters as the text, so that places in both are the same.
    """
    return text if _AS_IT_IS.fullmatch(text) else text.translate(_TABLE)
