"""The times of a schedule, by the rules of Kubeflow's scheduler (github.com/robfig/cron, version 1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from metseg.errors import UsageError

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
FIELDS = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("weekday", 0, 6, WEEKDAYS),
)
ANY = ("*", "?")
YEARS = 5
"""What has no time in as many years has none; the scheduler looks no further."""
PART = re.compile(r"(?P<first>\*|\?|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\d+))?")


@dataclass(frozen=True)
class Cron:
    """A schedule.

    Attributes:
        text: as Kubeflow takes it, with seconds in front.
        allowed: values of each field at which it runs.
        either_day: whether a day of the month and a weekday are given, and either will do.
    """

    text: str
    allowed: tuple[frozenset[int], ...]
    either_day: bool

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Read the five fields that people know, or six with seconds in front.

        Raises:
            UsageError: it is neither, or a value is out of range.
        """
        fields = text.split()
        if len(fields) == len(FIELDS) - 1:
            fields = ["0", *fields]
        if len(fields) != len(FIELDS):
            raise UsageError(f"--cron {text!r}: expected minute, hour, day, month, weekday, such as '0 3 * * 1'")
        allowed = tuple(
            frozenset().union(*(_values(part, *kind, text) for part in field.split(",")))
            for field, kind in zip(fields, FIELDS, strict=True)
        )
        both = all(not field.startswith(ANY) for field in (fields[3], fields[5]))
        return cls(" ".join(fields), allowed, both)

    def next(self, after: datetime) -> datetime | None:
        """The first time after another, in its zone; None where there is none within five years."""
        seconds, minutes, hours, days, months, weekdays = self.allowed
        moment = after.replace(microsecond=0) + timedelta(seconds=1)
        midnight = moment.replace(hour=0, minute=0, second=0)
        for number in range(YEARS * 366):
            day = midnight + timedelta(days=number) if number else moment
            fits = (day.day in days, (day.weekday() + 1) % 7 in weekdays)
            if day.month not in months or not (any(fits) if self.either_day else all(fits)):
                continue
            times = ((h, m, s) for h in sorted(hours) for m in sorted(minutes) for s in sorted(seconds))
            earliest = (day.hour, day.minute, day.second)
            if found := next((time for time in times if time >= earliest), None):
                return day.replace(hour=found[0], minute=found[1], second=found[2])
        return None


def _values(part: str, name: str, least: int, most: int, names: tuple[str, ...], text: str) -> frozenset[int]:
    """Values that one part of a field stands for: `*`, `3`, `1-5`, `*/15`, `mon`."""

    def number(word: str) -> int:
        if word.lower() in names:
            return names.index(word.lower()) + least
        return int(word)

    found = PART.fullmatch(part)
    try:
        if found is None:
            raise ValueError(part)
        first, last, step = found["first"], found["last"], int(found["step"] or 1)
        start = least if first in ANY else number(first)
        end = number(last) if last else most if first in ANY or found["step"] else start
        if not least <= start <= end <= most or step < 1 or (first in ANY and last):
            raise ValueError(part)
    except ValueError:
        hint = " (Sunday is 0)" if name == "weekday" else ""
        raise UsageError(
            f"--cron {text!r}: {part!r} is no {name}: expected {least} to {most}{hint}, a range a-b, a list a,b or "
            "*/n; the fields are minute, hour, day, month, weekday, such as '0 3 * * 1'"
        ) from None
    return frozenset(range(start, end + 1, step))
