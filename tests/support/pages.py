"""The examples of a page in docs/: blocks of code, and what the page says that they print."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parents[2] / "docs"

_LINES = r"((?:(?!```).*\n)*)"
_EXAMPLE = re.compile(rf"^```(\w+)\n{_LINES}```\n\n```\n{_LINES}```$", re.MULTILINE)


class Example(NamedTuple):
    """A block of code that is followed by a block of output."""

    language: str
    code: str
    output: str


def examples(page: str, language: str) -> list[Example]:
    """The examples of a page in one language, in order."""
    found = (Example(*match.groups()) for match in _EXAMPLE.finditer((DOCS / page).read_text()))
    return [example for example in found if example.language == language]
