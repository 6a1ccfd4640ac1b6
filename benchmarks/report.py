"""The table."""

from __future__ import annotations

from dataclasses import dataclass

from .processes import Cost

_HEADINGS = ("work", "qemu-img", "ours", "ratio", "CPU ratio", "peak", "target", "")


@dataclass(frozen=True)
class Line:
    """One row of the table, as text, and whether its target is met."""

    cells: tuple[str, ...]
    met: bool


def seconds(cost: Cost) -> str:
    """Wall and CPU time."""
    return f"{cost.wall:.3g} / {cost.cpu:.3g} s"


def mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"


def verdict(met: bool) -> str:
    return "met" if met else "NOT MET"


def table(lines: list[Line]) -> str:
    """All lines under their headings; times are wall / CPU."""
    rows = [_HEADINGS, *((*line.cells, verdict(line.met)) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    shown = [
        "  ".join(
            cell.ljust(width) if column in (0, 6, 7) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    shown.insert(1, "-" * max(map(len, shown)))
    return "\n".join(shown)
