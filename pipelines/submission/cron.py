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
"""Years that the scheduler looks ahead for the next time."""
PART = re.compile(r"(?P<first>\*|\?|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\d+))?")


@dataclass(frozen=True)
class Cron:
    """A schedule.

    Attributes:
        text: as Kubeflow takes it, with seconds in front.
        allowed: values of each field at which it runs.
        either_day: whether day of the month and weekday are both given, so that either matches.
    """

    text: str
    allowed: tuple[frozenset[int], ...]
    either_day: bool

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Parse the usual five fields, or six with seconds in front.

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
        """Return the next time after `after`, in its zone; None beyond five years."""
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
            if first := next((time for time in times if time >= earliest), None):
                return day.replace(hour=first[0], minute=first[1], second=first[2])
        return None


def _values(part: str, name: str, least: int, most: int, names: tuple[str, ...], text: str) -> frozenset[int]:
    """Return the values of one part of a field, such as `1-5` or `*/15`."""

    def number(word: str) -> int:
        if word.lower() in names:
            return names.index(word.lower()) + least
        return int(word)

    match = PART.fullmatch(part)
    try:
        if match is None:
            raise ValueError(part)
        first, last, step = match["first"], match["last"], int(match["step"] or 1)
        start = least if first in ANY else number(first)
        end = number(last) if last else most if first in ANY or match["step"] else start
        if not least <= start <= end <= most or step < 1 or (first in ANY and last):
            raise ValueError(part)
    except ValueError:
        hint = " (Sunday is 0)" if name == "weekday" else ""
        raise UsageError(
            f"--cron {text!r}: {part!r} is no {name}: expected {least} to {most}{hint}, a range a-b, a list a,b or "
            "*/n; the fields are minute, hour, day, month, weekday, such as '0 3 * * 1'"
        ) from None
    return frozenset(range(start, end + 1, step))
