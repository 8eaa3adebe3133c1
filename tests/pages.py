"""Reading a page as a browser does: its elements, its text, and what Chromium makes of it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

SWITCHES = """
    --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --dump-dom
"""
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Elements(HTMLParser):
    """All elements with attributes, the visible text, and whether every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


def figures_of_cases(html: str) -> list[tuple[str, list[str]]]:
    """(name, lines below the picture) of every case on a page of cases."""
    captions = re.findall(r"<figcaption><strong>(.*?)</strong>(.*?)</figcaption>", html)
    return [(name, re.findall(r"<span[^>]*>(.*?)</span>", lines)) for name, lines in captions]
