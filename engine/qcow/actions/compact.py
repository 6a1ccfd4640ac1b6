"""``compact``: the image made as short as it can be, in place, with all its internal snapshots.

Data from the end of the file goes into holes, in rounds that are each a complete image; then the
file is cut.  No second file is needed, and no more room than a round takes.
"""

from __future__ import annotations

from typing import Any

from ..edit.editor import Editor
from ..edit.plan import Outcome
from ..edit.reclaim import give_back
from ..errors import EditRefused, UsageError
from ..record import record
from ..text import plural, safe
from ..text import size as size_of
from .command_line import command_line
from .compacting.batches import FORGET, Tally
from .compacting.keeping import pack_keeping
from .compacting.ordering import Ordering
from .compacting.room import LEAST, occupied, spare_for
from .compacting.rounds import Packing
from .compacting.zeroes import Zeroes


@record
class Compact:
    """Move what lies at the end of the file into holes, and give the rest back to the host.

    ``zeroes``: data clusters that hold nothing but zeros become zero clusters (version 2 without a
    backing file: unallocated; with one they stay), and reserved zero clusters give up their space.
    ``defragment``: data of the active state is put into the order of the guest disk.  ``reclaim``
    False keeps undo possible: then everything happens in one round, which needs free clusters for
    all it moves, and the file keeps its length until it is reclaimed.  ``spare``: bytes a round may
    take before it gives any back; None for a choice by the room there is, 8 MiB where that is
    scarce.  The tables of one round may need more.

    Raises EditRefused for LUKS-encrypted images, UsageError for ``defragment`` without ``reclaim``.
    """

    zeroes: bool = False
    defragment: bool = False
    reclaim: bool = True
    spare: int | None = None
    verb = "compact"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        arguments = []
        if self.zeroes:
            arguments.append("--zeroes")
        if self.defragment:
            arguments.append("--defragment")
        if not self.reclaim:
            arguments.append("--no-reclaim")
        if self.spare is not None:
            arguments += ["--spare", str(self.spare)]
        return command_line("compact", *arguments, path)

    def describe(self) -> dict[str, Any]:
        return {
            "verb": "compact",
            "zeroes": self.zeroes,
            "defragment": self.defragment,
            "reclaim": self.reclaim,
            "spare": self.spare,
        }

    def run(self, editor: Editor) -> Outcome:
        if self.defragment and not self.reclaim:
            raise UsageError("Ordering clusters needs the space they leave: it cannot keep undo.")
        if self.spare is not None and self.spare < 0:
            raise UsageError("The spare room cannot be negative.")
        _require_movable(editor)
        length, held = editor.storage.size(), occupied(editor.storage)
        allocated = editor.storage.allocated_bytes()
        undoable = editor.undo_count
        spare = spare_for(editor.storage.room()) if self.spare is None else self.spare
        editor.require_sound()  # or be refused before undo is given up
        if self.reclaim:
            editor.forget_history(FORGET)
            if spare <= LEAST:
                # What is free but not given back, as after an interruption, is room as well.
                give_back(editor, editor.begin())
        tally = Tally()
        if self.zeroes:
            Zeroes(editor, spare, tally, keep=not self.reclaim).run()
        if not self.reclaim:
            pack_keeping(editor, tally)
        else:
            if self.defragment:
                Ordering(editor, spare, tally).run()
            Packing(editor, spare, tally).run()
            editor.forget_history(FORGET)
            give_back(editor, editor.begin())
        change = occupied(editor.storage) - held
        editor.count_returned(max(0, -change))
        before = held if allocated is None else allocated
        return self._outcome(editor, tally, length, (before, before + change), undoable)

    def _outcome(
        self, editor: Editor, tally: Tally, length: int, disk: tuple[int, int], undoable: int
    ) -> Outcome:
        after = editor.storage.size()
        snapshots = len(editor.image.snapshots)
        steps = []
        if self.zeroes:
            steps.append(
                f"Turns {tally.zeroed} data clusters of zeros into "
                f"{'unallocated' if editor.image.header.version < 3 else 'zero'} clusters."
            )
        if self.defragment:
            steps.append(f"Moves {tally.ordered} clusters to bring the data into order.")
        steps.append(f"Moves {tally.moved} clusters from the end of the file into holes.")
        if self.reclaim:
            steps.append("Cuts the file behind the last used cluster and punches what is free.")
        size = editor.image.header.cluster_size
        warnings = []
        if tally.late:
            warnings.append(
                f"The file ends {tally.late} clusters later than it could: {tally.stuck} clusters "
                "behind that place cannot be moved (leaks, or compressed data that needs more "
                "adjacent free clusters than there are)."
            )
        if not self.reclaim and not tally.moved:
            warnings.append(
                "Nothing can be moved: too few clusters are free while undo is kept.  Reclaim "
                "first, or let compact do it."
            )
        if self.zeroes and editor.image.header.version < 3 and editor.image.backing is not None:
            warnings.append(
                "A version 2 image with a backing file cannot say that a cluster is zero: data of "
                "zeros stays (amend -o compat=1.1 first)."
            )
        kept = f"; {plural(snapshots, 'snapshot')} kept" if snapshots else ""
        if self.reclaim:
            summary = f"Makes the file {size_of(length - after)} shorter{kept}."
        else:
            summary = f"Packs the image so that reclaim can make the file shorter{kept}."
        lost = self.reclaim and undoable
        return Outcome(
            summary=summary,
            steps=tuple(steps),
            warnings=tuple(warnings),
            loses=f"The way back: {plural(undoable, 'change')} can no longer be undone."
            if lost
            else "",
            no_undo="What is reclaimed is gone." if self.reclaim else "",
            changed_bytes=0,
            facts={
                "saved-length": length - after,
                # As far as the host tells data from holes.
                "disk-before": disk[0],
                "disk-after": disk[1],
                "clusters-moved": tally.moved + tally.ordered,
                "clusters-ordered": tally.ordered,
                "clusters-zeroed": tally.zeroed,
                "bytes-moved": (tally.moved + tally.ordered) * size,
                "bytes-read": tally.scanned + (tally.moved + tally.ordered) * size,
                "clusters-stuck": tally.stuck,
            },
        )


def _require_movable(editor: Editor) -> None:
    image = editor.image
    if image.encryption == "luks":
        raise EditRefused(
            f"'{safe(image.name)}' is encrypted with LUKS: what a cluster holds is bound to its "
            "place in the file, and moving it needs the key."
        )
