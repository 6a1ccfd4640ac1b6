"""Numbers for people: sizes, offsets, counts, durations and rates, spelt one way everywhere."""

from __future__ import annotations

from qcow.text import SIZE_UNITS
from qcow.text import exact as exact
from qcow.text import plural as plural
from qcow.text import size as size
from qcow.text import size_and_bytes as size_and_bytes


def offset(position: int) -> str:
    """A byte position: ``0x2c40000``."""
    return f"{position:#x}"


def count(number: int) -> str:
    """With thousands separators: ``1,048,576``."""
    return f"{number:,}"


def percent(part: int, whole: int) -> str:
    """A share that is never rounded to a lie: only nothing is ``0 %`` and only all is ``100 %``."""
    if whole <= 0 or part <= 0:
        return "0 %"
    if part >= whole:
        return "100 %"
    tenths = (part * 1000 + whole // 2) // whole
    if tenths == 0:
        return "<0.1 %"
    if tenths >= 1000:
        return ">99.9 %"
    return f"{tenths // 10}.{tenths % 10} %"


def duration(seconds: float) -> str:
    """``0.3 s``, ``12 s``, ``3 min 05 s``, ``1 h 02 min``, ``2 d 03 h``."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = whole // 60
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = minutes // 60
    return f"{hours // 24} d {hours % 24:02} h"


def byte_rate(bytes_per_second: float) -> str:
    """``12.4 MiB/s``."""
    return f"{size(max(0, round(bytes_per_second)))}/s"


def count_rate(per_second: float, noun: str) -> str:
    """``1,200 clusters/s``."""
    return f"{max(0, round(per_second)):,} {noun}s/s"


def axis_label(position: int, step: int, width: int = 10) -> str:
    """A byte position as the label of one row of an axis whose rows are ``step`` bytes apart.

    The largest unit in which two decimals still tell neighbouring rows apart; where that is longer
    than ``width`` characters, the position in hex.
    """
    if position == 0:
        return "0"
    for power in range(6, -1, -1):
        unit = 1 << (10 * power)
        if position < unit and power:
            continue
        if power and step * 100 < unit and position % unit:
            continue
        if power == 0:
            break
        whole, rest = divmod(position, unit)
        hundredths = rest * 100 // unit
        digits = f".{hundredths:02}".rstrip("0").rstrip(".") if hundredths else ""
        label = f"{whole}{digits} {SIZE_UNITS[power][:2]}"
        if len(label) <= width:
            return label
        break
    return offset(position)
