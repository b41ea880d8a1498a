"""The numbers that the page for operators gives are the settings' own."""

import re
from pathlib import Path

from tidegate.config import ServerSettings

UNITS = {"": 1, "s": 1, "h": 3600, "MiB": 2**20, "GiB": 2**30}
ROW = re.compile(r"^\| (`\w+`(?: \+ `\w+`)*) \| ([^|]+) \|", re.MULTILINE)
QUANTITY = re.compile(r"([\d,]+) ?(MiB|GiB|h\b|s\b|)")


def test_every_limit_is_listed_with_its_default(root: Path) -> None:
    page = (root / "docs/operations.md").read_text()
    section = page.partition("\n## Limits\n")[2].partition("\n## ")[0]
    rows = [(re.findall(r"\w+", names), QUANTITY.findall(cell)) for names, cell in ROW.findall(section)]
    listed = {n: as_number(*q) for names, qs in rows for n, q in zip(names, qs, strict=True)}
    defaults = {name: field.default for name, field in ServerSettings.model_fields.items()}

    assert listed == {name: defaults[name] for name in listed}
    # These shape a batch; nothing is refused past them.
    assert {n for n in defaults if n.startswith("max_")} - set(listed) == {
        "max_batch_size",
        "max_queue_delay_us",
        "max_slice_steps",
    }


def as_number(digits: str, unit: str) -> int:
    return int(digits.replace(",", "")) * UNITS[unit]
