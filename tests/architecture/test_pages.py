"""Links between the project's pages lead somewhere, and their tables of floors are the contract's."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (".", "bench", "docs", "models")

LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)\s]+))?\)|\]\(#([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Headings as hosts of Markdown turn them into anchors."""
    headings = re.findall(r"^#+ +(.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def contract() -> dict[str, int]:
    """The floor of each package by the contract that `make check` proves; the lowest three layers are floor 0."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (c["layers"] for c in contracts if c["id"] == "floors")
    return {
        name.strip().removeprefix("tidegate."): max(0, 7 - depth)
        for depth, layer in enumerate(layers)
        for name in layer.split("|")
    }


def told(page: Path) -> dict[str, int]:
    """The floor of each package by the table of a page."""
    rows = re.findall(r"^\| (\d) \| (.+) \|$", page.read_text(), re.MULTILINE)
    known = contract()
    return {
        name: int(floor) for floor, text in rows for name in re.findall(r"`(\w+)/?`", text) if name in known
    }


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_a_table_of_floors_has_every_package_on_the_floor_of_the_contract(page: str) -> None:
    folders = {path.parent.name for path in (ROOT / "service" / "tidegate").glob("*/__init__.py")}

    assert told(ROOT / page) == contract()
    assert folders <= contract().keys()


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
