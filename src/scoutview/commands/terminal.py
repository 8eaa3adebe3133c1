"""What commands print: text from files cannot colour, link, move or hide anything on a terminal."""

from __future__ import annotations

from rich.text import Text


def printable(text: object) -> str:
    """The text with a sign in place of every control character: escape sequences, direction marks, line breaks."""
    return "".join(sign if sign.isprintable() else " " if sign.isspace() else "\ufffd" for sign in str(text))


def cells(*texts: object) -> list[Text]:
    """Cells of a table: printable, and square brackets are no markup."""
    return [Text(printable(text)) for text in texts]
