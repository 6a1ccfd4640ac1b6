"""The map of a rescue: which bytes of the disk were read, in the file format of GNU ddrescue.

Lines of "position size status" (hexadecimal bytes), without gaps; ``+`` was read, ``-`` could not
be, ``?`` was not tried yet.  Tools for such maps (ddrescuelog, ddrescueview) read it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

from ..errors import FormatError

READ: Final = "+"
LOST: Final = "-"
UNTRIED: Final = "?"
#: What ddrescue itself writes for areas that failed in part: to be tried again.
_RETRIED = "*/"
#: A map larger than this is not one of ours.
MAX_BYTES: Final = 256 << 20


class RescueMap:
    """The status of each byte of a disk of ``size`` bytes, as runs; all untried at first."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._starts = [0] if size else []
        self._states = [UNTRIED] if size else []

    def runs(self) -> Iterator[tuple[int, int, str]]:
        """(start, length, status) in order, without gaps, neighbours differing."""
        ends = [*self._starts[1:], self.size]
        for start, end, state in zip(self._starts, ends, self._states, strict=True):
            yield start, end - start, state

    def ranges(self, *states: str) -> list[tuple[int, int]]:
        """(start, length) of the runs with one of ``states``."""
        return [(start, length) for start, length, state in self.runs() if state in states]

    def total(self, state: str) -> int:
        """Bytes with this status."""
        return sum(length for _, length in self.ranges(state))

    def mark(self, start: int, length: int, state: str) -> None:
        """Give ``[start, start + length)``, which lies on the disk, the status."""
        if not length:
            return
        end = start + length
        first = bisect_right(self._starts, start) - 1
        last = bisect_right(self._starts, end - 1) - 1
        before, behind = self._states[first], self._states[last]
        rest = self._starts[last + 1] if last + 1 < len(self._starts) else self.size
        starts, states = [start], [state]
        if self._starts[first] < start:
            starts.insert(0, self._starts[first])
            states.insert(0, before)
        if end < rest:
            starts.append(end)
            states.append(behind)
        low, high = first, last + 1
        if low and self._states[low - 1] == states[0]:
            low -= 1
            starts[0] = self._starts[low]
        if high < len(self._states) and self._states[high] == states[-1]:
            high += 1
        kept = [i for i in range(len(states)) if not i or states[i] != states[i - 1]]
        self._starts[low:high] = [starts[i] for i in kept]
        self._states[low:high] = [states[i] for i in kept]

    def encode(self, *comments: str) -> bytes:
        """The file; ``comments`` are lines for its head, safe to show."""
        untried = self.ranges(UNTRIED)
        position, status = (untried[0][0], "?") if untried else (0, "+")
        lines = [f"# {comment}" for comment in comments]
        lines += [
            "# current_pos  current_status  current_pass",
            f"{position:#010x}     {status}               1",
            "#      pos        size  status",
        ]
        lines += [f"{start:#010x}  {length:#010x}  {state}" for start, length, state in self.runs()]
        return "\n".join((*lines, "")).encode("ascii", "replace")

    @classmethod
    def decode(cls, data: bytes) -> RescueMap:
        """Read such a file.  Raises FormatError when it is none or has gaps."""
        rows = [
            row.split()
            for row in data.decode("ascii", "replace").splitlines()
            if row.strip() and not row.startswith("#")
        ]
        try:
            int(rows[0][0], 0)
            runs = [(int(row[0], 0), int(row[1], 0), row[2]) for row in rows[1:]]
        except (IndexError, ValueError) as error:
            raise FormatError("it is not a map in the format of ddrescue") from error
        at = 0
        for start, length, state in runs:
            if start != at or length <= 0 or state not in (READ, LOST, UNTRIED, *_RETRIED):
                raise FormatError(f"its line for {start:#x} does not continue the one before")
            at += length
        found = cls(at)
        for start, length, state in runs:
            found.mark(start, length, UNTRIED if state in _RETRIED else state)
        return found
