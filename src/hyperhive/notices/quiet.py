"""Quiet hours. Pure."""

from datetime import datetime, timedelta, tzinfo


def quiet_until(now: float, hours: str, zone: tzinfo | None) -> float | None:
    """When the quiet hours that `now` (unix seconds) lies in end, as unix seconds; None outside of them.

    Args:
        now: the time.
        hours: `HH:MM-HH:MM`, where the end may lie on the next day; the end is no longer quiet.
        zone: whose clock on the wall that is; None is the host's.
    """
    begin_text, _, end_text = hours.partition("-")
    begin, end = _minutes(begin_text), _minutes(end_text)
    here = datetime.fromtimestamp(now, zone).astimezone(zone)
    minute = here.hour * 60 + here.minute
    quiet = begin <= minute < end if begin <= end else minute >= begin or minute < end
    if not quiet:
        return None
    day = here + timedelta(days=1) if begin > end and minute >= begin else here
    ends = day.replace(hour=end // 60, minute=end % 60, second=0, microsecond=0, tzinfo=None)
    # Through the zone once more: between here and there its clocks may have been moved.
    return (ends.replace(tzinfo=zone) if zone is not None else ends).timestamp()


def _minutes(text: str) -> int:
    hour, _, minute = text.partition(":")
    return int(hour) * 60 + int(minute)
