"""The `[data]` table of a recipe: which series, which columns, and where it is cut."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from tidegate.errors import InvalidRequest
from tidegate.model.manifest import TimeRules
from tidegate.model.parsing import to_utc
from tidegate.training.recipe_types import RecipePart


def _as_written(value: object) -> dt.date:
    """A date stays a date when it comes from JSON, where both are text; a bare number is neither."""
    if isinstance(value, dt.date):
        return value
    try:
        text = value if isinstance(value, str) else ""
        of_text = dt.date if len(text) == len("2000-01-01") else dt.datetime
        return of_text.fromisoformat(text)
    except ValueError:
        raise ValueError("expected a date or a date and time, as in 2000-01-01T12:00:00") from None


Moment = Annotated[dt.date | dt.datetime, BeforeValidator(_as_written)]
"""A day, which begins at midnight, or a time; in the time zone of the rules unless it names its own."""


class Column(RecipePart):
    """A column that the network sees."""

    name: Annotated[str, Field(min_length=1)]
    """In the file's header."""

    unit: str = ""
    """For people; nothing is converted."""


class DataRecipe(RecipePart):
    """Where the series comes from and how it becomes steps."""

    file: Annotated[str, Field(min_length=1)]
    """CSV file, relative to the recipe; one that is not there is looked for in the data folder."""

    columns: Annotated[tuple[Column, ...], Field(min_length=1)]
    """What the network sees at each step, in order."""

    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    """The columns that are forecast, some of `columns`; for a single one `target = "name"` will do."""

    time: TimeRules
    """Goes into the manifest as it is; `column` is required here."""

    validation_from: Moment
    """Begin of the validation split; everything before it is trained on."""

    test_from: Moment
    """Begin of the held-out split, which is looked at once, after training."""

    test_until: Moment | None = None
    """The held-out split ends before this; what comes later is not used at all."""

    @model_validator(mode="before")
    @classmethod
    def _single_target(cls, keys: Any) -> Any:
        if not isinstance(keys, dict) or "target" not in keys:
            return keys
        if "targets" in keys:
            raise ValueError("target: expected either target or targets, got both")
        return {name: value for name, value in keys.items() if name != "target"} | {
            "targets": [keys["target"]]
        }

    @model_validator(mode="after")
    def _columns_fit(self) -> DataRecipe:
        names = [c.name for c in self.columns]
        computed = self.time.computed_features & set(names)
        if computed:
            raise ValueError(f"columns: {min(computed)!r} is computed from the calendar, and no column")
        if len(set(names)) != len(names):
            raise ValueError(f"columns: names must differ, got {names}")
        for target in self.targets:
            if target not in names:
                raise ValueError(f"targets: expected one of {names}, got {target!r}")
        if len(set(self.targets)) != len(self.targets):
            raise ValueError(f"targets: names must differ, got {list(self.targets)}")
        return self

    @model_validator(mode="after")
    def _parts_follow_each_other(self) -> DataRecipe:
        if not self.time.column:
            raise ValueError("time.column: required, because the split is by time")
        if self.test_begin <= self.validation_begin:
            raise ValueError(f"test_from: expected a time after {self.validation_from}, got {self.test_from}")
        if self.test_end is not None and self.test_end <= self.test_begin:
            raise ValueError(f"test_until: expected a time after {self.test_from}, got {self.test_until}")
        return self

    @property
    def target_positions(self) -> tuple[int, ...]:
        """Where the targets stand among the columns."""
        names = [c.name for c in self.columns]
        return tuple(names.index(target) for target in self.targets)

    @property
    def target_units(self) -> tuple[str, ...]:
        """What the targets are measured in."""
        return tuple(self.columns[position].unit for position in self.target_positions)

    @property
    def validation_begin(self) -> dt.datetime:
        """`validation_from` in UTC."""
        return self._instant(self.validation_from)

    @property
    def test_begin(self) -> dt.datetime:
        """`test_from` in UTC."""
        return self._instant(self.test_from)

    @property
    def test_end(self) -> dt.datetime | None:
        """`test_until` in UTC; None: the series is used to its end."""
        return None if self.test_until is None else self._instant(self.test_until)

    def _instant(self, moment: dt.date) -> dt.datetime:
        if not isinstance(moment, dt.datetime):
            moment = dt.datetime.combine(moment, dt.time())
        try:
            return to_utc(moment, self.time.zone)
        except InvalidRequest as error:
            raise ValueError(str(error)) from None
