"""Links between the project's pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = (".", "bench", "docs", "models")

LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)\s]+))?\)|\]\(#([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Headings as hosts of Markdown turn them into anchors."""
    headings = re.findall(r"^#+ +(.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_every_link_of_every_page_leads_to_a_file_and_a_heading() -> None:
    pages = [page for folder in FOLDERS for page in (ROOT / folder).glob("*.md")]

    broken = []
    for page in pages:
        for target, anchor, own_anchor in LINK.findall(page.read_text()):
            if target.startswith(("http://", "https://")):
                continue
            file = page.parent / target if target else page
            heading = anchor or own_anchor
            if not file.exists() or (heading and heading not in anchors(file)):
                broken.append(f"{page.name}: {target}#{heading}")

    assert len(pages) >= 10
    assert broken == []
