"""Times of a cron schedule in a time zone. Pure: the caller says what time it is.

When the clocks are set back an hour comes twice. A schedule that names its hours takes the first of the two;
one that comes each hour, or each few hours (the field begins with *), takes both. When they are set forward a
time that is left out comes at the end of the gap.
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterError, croniter

from pipewright import errors


def next_after(schedule: str, *, zone: str, after: datetime) -> datetime:
    """The first time of the schedule after `after`, in UTC.

    Raises:
        Stalled: there is no such time zone, or no such time (the 31st of February).
    """
    return _turn(schedule, zone=zone, at=after, forward=True)


def last_before(schedule: str, *, zone: str, before: datetime) -> datetime:
    """The last time of the schedule before `before`, in UTC.

    Raises:
        Stalled: as for `next_after`.
    """
    return _turn(schedule, zone=zone, at=before, forward=False)


def _turn(schedule: str, *, zone: str, at: datetime, forward: bool) -> datetime:
    try:
        times = croniter(schedule, at.astimezone(ZoneInfo(zone)))
        found = _step(times, forward=forward)
        while not schedule.split()[1].startswith("*") and _is_repeated(found):
            found = _step(times, forward=forward)
    except (ZoneInfoNotFoundError, ValueError, OSError) as wrong:
        if isinstance(wrong, CroniterError):
            raise errors.Stalled(
                "InvalidSchedule", f"the schedule {schedule!r} names no time that ever comes: correct it"
            ) from None
        raise errors.Stalled(
            "InvalidTimeZone",
            f"the time zone {zone} is not in the IANA database: use a name such as Europe/Berlin",
        ) from None
    return found.astimezone(UTC)


def _step(times: croniter, *, forward: bool) -> datetime:
    found: datetime = times.get_next(datetime) if forward else times.get_prev(datetime)
    return found


def _is_repeated(found: datetime) -> bool:
    """Whether the clock showed this time an hour before, too."""
    return bool(found.fold) and found.utcoffset() != found.replace(fold=0).utcoffset()
