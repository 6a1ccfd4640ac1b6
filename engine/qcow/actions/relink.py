"""``relink`` (``rebase -u``): another name, or another place, for the backing file.

Only the header changes, so the guest disk is what the new base makes of it.  What would read
differently is found out first, where the old base can still be read; where it cannot, the new base
is judged by what it holds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..chain import Chain
from ..edit.editor import Editor
from ..edit.plan import Outcome
from ..errors import (
    EditRefused,
    FormatError,
    GuestDataError,
    ReferenceRefused,
    StorageError,
    UnsupportedFormat,
    UsageError,
)
from ..findings import GuestRange
from ..image.image import Image
from ..inspect.diff import diff
from ..record import record
from ..text import safe, size
from .base_evidence import Candidate, Evidence, candidates, evidence
from .command_line import command_line
from .new_base import LISTED, encoded_name, over_new_base, require_room_for_backing, summed

__all__ = ["Candidate", "Relink", "candidates"]


class _Judged(NamedTuple):
    """``changed`` bytes read differently; None when the old base cannot be read."""

    speaks_for: tuple[str, ...]
    doubts: tuple[str, ...]
    changed: int | None = None
    ranges: tuple[GuestRange, ...] = ()


@record
class Relink:
    """Name ``backing`` (of ``format``) as the backing file; None for none.  Nothing is copied.

    ``backing`` is written as it is given: a relative name is relative to the image's folder.
    Without ``force`` it raises EditRefused for a file that is not there, is not of ``format``,
    would make the disk read differently, or cannot be told to be the right one.
    """

    backing: str | None
    format: str | None = None
    force: bool = False
    verb = "relink"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        arguments = ["-b", self.backing or ""]
        if self.format is not None:
            arguments += ["-F", self.format]
        if self.force:
            arguments.append("--force")
        return command_line("relink", *arguments, path)

    def describe(self) -> dict[str, Any]:
        return {
            "verb": "relink",
            "backing": None if self.backing is None else safe(self.backing),
            "format": None if self.format is None else safe(self.format),
            "force": self.force,
        }

    def run(self, editor: Editor) -> Outcome:
        image = editor.image
        if self.backing is not None:
            require_room_for_backing(image)
            if self.format is None and not self.force:
                raise EditRefused(
                    "State the format of the backing file (-F): without it, a guest that can "
                    "write to a raw base could make it pass for another format."
                )
        elif self.format is not None:
            raise UsageError("A backing format without a backing file means nothing.")
        before = image.backing
        judged = self._judge(editor)
        if judged.doubts and not self.force:
            raise EditRefused(self._refusal(judged))
        tx = editor.begin()
        name = None if self.backing is None else encoded_name(self.backing)
        format = None if self.format is None else self.format.encode()
        tx.header_cluster = tx.header_cluster.with_backing(name, format)
        editor.commit(tx)
        warnings = list(judged.doubts)
        if judged.changed is None and self.backing is not None:
            warnings.append(
                "The present backing file cannot be read, so nothing proves that the new one holds "
                "the same: look at the disk before it is used."
            )
        shown = "no backing file" if self.backing is None else f"'{safe(self.backing)}'"
        was = "none" if before is None else f"'{safe(before.name)}'"
        return Outcome(
            summary=f"Points the image at {shown} instead of {was}.",
            steps=("Writes the name and the format into the header; no data is copied.",),
            warnings=tuple(warnings),
            changed=judged.ranges,
            changed_bytes=judged.changed,
            facts={"evidence": list(judged.speaks_for), "doubts": list(judged.doubts)},
        )

    def _refusal(self, judged: _Judged) -> str:
        shown = "nothing" if self.backing is None else f"'{safe(self.backing)}'"
        safely = (
            " To change the base and keep the disk as it is, use rebase"
            + (" or flatten" if self.backing is None else "")
            + "."
            if judged.changed is not None
            else ""
        )
        return (
            f"The image is not pointed at {shown}: {' '.join(judged.doubts)}{safely} With --force "
            "it is done nevertheless."
        )

    def _judge(self, editor: Editor) -> _Judged:
        try:
            over = over_new_base(editor, self.backing, self.format)
        except (FormatError, UnsupportedFormat, StorageError, ReferenceRefused) as error:
            return _Judged((), (f"{str(error).rstrip('.')}.",))
        with over:
            old = editor.chain()
            found = Evidence((), ())
            if self.backing is not None:
                found = evidence(over, self.format)
            doubts = list(found.all_doubts)
            if old.absent is not None or over.absent is not None:
                if self.backing is None:
                    doubts.append(
                        "The present backing file cannot be read, so what would be lost is unknown."
                    )
                return _Judged(found.speaks_for, tuple(doubts))
            try:
                changed, ranges = _difference(editor, editor.image, old, over)
            except GuestDataError as error:
                doubts.append(f"What would read differently cannot be found out. {error}")
                return _Judged(found.speaks_for, tuple(doubts))
            if not changed:  # a proof, whatever the file looks like
                doubts = [found.format_doubt] if found.format_doubt else []
                return _Judged(("Every byte reads as before.",), tuple(doubts), 0)
            doubts.append(f"{size(changed)} would read differently than now.")
            return _Judged(found.speaks_for, tuple(doubts), changed, ranges)


def _difference(
    editor: Editor, image: Image, old: Chain, new: Chain
) -> tuple[int, tuple[GuestRange, ...]]:
    """(bytes that differ in the active state and all snapshots, the first ranges)."""

    def differences(one: Chain, other: Chain, state: str) -> tuple[int, tuple[GuestRange, ...]]:
        found = diff(one, other, by_content=True, progress=editor.progress, cancel=editor.cancel)
        return summed(found, state)

    total, ranges = differences(old, new, "active")
    for snapshot in image.snapshots:
        pair = old.at_snapshot(snapshot), new.at_snapshot(snapshot)
        more, others = differences(*pair, snapshot.label)
        total, ranges = total + more, (*ranges, *others)[:LISTED]
    return total, ranges
