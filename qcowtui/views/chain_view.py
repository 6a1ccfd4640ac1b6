"""The backing chain as rows: who builds on this image, the layers, and what each one serves."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum

from qcow.chain.coverage import LayerInfo
from qcow.chain.layer import LayerStatus
from qcow.text import safe

from .reference_words import ReferenceWords, unopened
from .session import Part, PartState, Session
from .tones import Tone
from .units import percent, plural, size

#: Dependents named one by one; more are counted.
_MAX_DEPENDENTS = 50

_STATUS_WORDS = {
    LayerStatus.OK: "",
    LayerStatus.REFUSED: "not opened",
    LayerStatus.MISSING: "not found",
    LayerStatus.CYCLIC: "runs in a circle",
    LayerStatus.TOO_DEEP: "too deep",
    LayerStatus.WRONG_FORMAT: "not the stated format",
    LayerStatus.UNSUPPORTED: "format not read here",
    LayerStatus.IN_USE: "in use, not read",
    LayerStatus.DAMAGED: "damaged",
}


class RowKind(Enum):
    """What a row of the chain stands for; the value is for people."""

    DEPENDENT = "builds on this image"
    LAYER = "backing file"
    DATA_FILE = "external data file"
    UNSERVED = "in no layer"


@dataclass(frozen=True, slots=True)
class ChainRow:
    """One row.  All texts are safe to show; sizes are bytes, None where they are not known.

    ``served`` are the guest bytes that a reader of the top gets from this layer, ``served_before``
    those of the layers above it: together they place its bar.  ``needed`` are those that a layer
    which is not open would have to serve.  ``depth`` is the indentation.
    """

    kind: RowKind
    depth: int
    name: str
    path: str
    format: str = ""
    status: str = ""  # words; empty when all is well
    tone: Tone = Tone.PLAIN
    reason: str = ""  # a sentence on the status
    grantable: bool = False  # closed only because nobody has allowed it to be opened
    virtual_size: int | None = None
    file_length: int | None = None
    disk_size: int | None = None
    served: int | None = None
    served_before: int = 0
    needed: int | None = None
    hidden: int | None = None  # stored here, but covered by layers above


@dataclass(frozen=True, slots=True)
class ChainView:
    """``served_total`` is what the bars are shares of (bytes).

    ``note`` sums it up in a few words of our own, without any name.
    """

    rows: tuple[ChainRow, ...]
    served_total: int
    note: str
    tone: Tone = Tone.MUTED

    @property
    def grantable(self) -> bool:
        """Whether some file would be opened if the user allowed it."""
        return any(row.grantable for row in self.rows)


def chain_view(session: Session, key: str = "f") -> ChainView:
    """The rows of the pane; ``key`` is what the user presses to let backing files be opened."""
    layers = _followed(session, key) if session.layers else _unfollowed(session, key)
    served_total = sum(row.served or 0 for row in layers)
    rows = [*_dependents(session), *layers, *_unserved(session, layers, served_total)]
    note, tone = _note(session, layers)
    return ChainView(tuple(rows), served_total, note, tone)


def dependents_words(session: Session) -> str:
    """How the search for images that build on this one went, in one sentence."""
    search = session.dependents
    if search is None:
        return "This folder was not searched for images that build on this one."
    looked = plural(search.images, "image") + " looked at"
    if search.unreadable:
        looked += f", {len(search.unreadable):,} unreadable"
    if not search.found:
        return f"No image in this folder builds on this one ({looked})."
    found = plural(len(search.found), "image")
    verb = "builds" if len(search.found) == 1 else "build"
    return f"{found} in this folder {verb} on this one ({looked})."


def row_details(row: ChainRow, view: ChainView) -> tuple[tuple[str, str], ...]:
    """(label, text) pairs on one row, for the details below the list."""
    if row.kind is RowKind.UNSERVED:
        return ((row.kind.value, row.reason),)
    top = row.kind is RowKind.LAYER and not row.depth
    found: list[tuple[str, str]] = [("this image" if top else row.kind.value, row.path or row.name)]
    if row.status or row.reason:
        found.append((row.status, row.reason))
    if row.served is not None:
        text = f"{size(row.served)} of the disk"
        if all(other.needed is None for other in view.rows):
            text += f", {percent(row.served, view.served_total)} of what is stored in the chain"
        if row.hidden:
            text += f"; {size(row.hidden)} more are here, but hidden by the layers above"
        found.append(("serves", text))
    if row.needed:
        found.append(("would serve", f"up to {size(row.needed)} of the disk"))
    sizes = [
        f"{label} {size(number)}"
        for label, number in (
            ("virtual size", row.virtual_size),
            ("file length", row.file_length),
            ("on disk", row.disk_size),
        )
        if number is not None
    ]
    if sizes:
        found.append(("sizes", ", ".join(sizes)))
    return tuple(found)


def _note(session: Session, layers: list[ChainRow]) -> tuple[str, Tone]:
    failure = session.failures.get(Part.CHAIN)
    if failure is not None:
        return failure, Tone.BAD
    absent = next((row for row in layers if row.status), None)
    if absent is not None:
        if absent.tone is Tone.BAD:
            return f"{absent.kind.value} {absent.status}: what only it holds is missing", Tone.BAD
        return f"{absent.kind.value} {absent.status}", absent.tone
    if len(layers) == 1:
        return "no backing file", Tone.MUTED
    if session.state_of(Part.CHAIN) is not PartState.COMPLETE:
        return "measuring what each layer serves ...", Tone.MUTED
    return f"{plural(len(session.layers), 'layer')}, all readable", Tone.MUTED


def _followed(session: Session, key: str) -> list[ChainRow]:
    rows: list[ChainRow] = []
    before = 0
    above: str | None = session.file.path
    for info in session.layers:
        row = _layer(session, info, above, before, key)
        rows.append(row)
        before += row.served or 0
        above = info.path
        if info.data_file is not None:
            closed = None
            if info.data_file_status is LayerStatus.REFUSED:
                closed = unopened(session.gate, info.path, info.data_file, key)
            rows.append(_data_file(info.depth, info.data_file, info.data_file_status, closed))
    return rows


def _layer(session: Session, info: LayerInfo, above: str | None, before: int, key: str) -> ChainRow:
    status, reason, grantable = _STATUS_WORDS[info.status], info.reason, False
    tone = Tone.PLAIN if info.status is LayerStatus.OK else Tone.BAD
    if info.status is LayerStatus.REFUSED:
        status, reason, tone, grantable = unopened(session.gate, above, info.name, key, info.reason)
    shown = safe(os.fsdecode(info.name) if info.path is None else info.path)
    covered = info.coverage
    is_open = info.status is LayerStatus.OK
    return ChainRow(
        kind=RowKind.LAYER,
        depth=info.depth,
        name=safe(info.name) if info.depth else _last_part(shown),
        path=shown,
        format=_format(info.format, info.stated_format),
        status=status,
        tone=tone,
        reason=reason,
        grantable=grantable,
        virtual_size=info.virtual_size,
        file_length=info.file_length,
        disk_size=info.disk_size,
        served=covered.served if covered is not None and is_open else None,
        needed=covered.served if covered is not None and not is_open else None,
        served_before=before,
        hidden=None if covered is None else covered.hidden,
    )


def _unfollowed(session: Session, key: str) -> list[ChainRow]:
    """What the image alone says, before anything was followed."""
    image, qcow2 = session.image, session.qcow2
    shown = safe(session.path)
    rows = [
        ChainRow(
            kind=RowKind.LAYER,
            depth=0,
            name=_last_part(shown),
            path=shown,
            format=image.format,
            virtual_size=image.virtual_size,
            file_length=session.storage.size(),
            disk_size=session.file.allocated_bytes(),
        )
    ]
    if qcow2 is not None and qcow2.data_file is not None:
        closed = unopened(session.gate, session.file.path, qcow2.data_file, key)
        rows.append(_data_file(0, qcow2.data_file, LayerStatus.REFUSED, closed))
    if image.backing is not None:
        closed = unopened(session.gate, session.file.path, image.backing.name, key)
        shown = safe(image.backing.name)
        rows.append(
            ChainRow(
                kind=RowKind.LAYER,
                depth=1,
                name=shown,
                path=shown,
                format=_format(None, image.backing.format),
                status=closed.words,
                tone=closed.tone,
                reason=closed.sentence,
                grantable=closed.grantable,
            )
        )
    return rows


def _data_file(
    depth: int, name: bytes, status: LayerStatus, closed: ReferenceWords | None
) -> ChainRow:
    shown = safe(name)
    words = closed or ReferenceWords(
        _STATUS_WORDS[status], "", Tone.PLAIN if status is LayerStatus.OK else Tone.BAD, False
    )
    return ChainRow(
        kind=RowKind.DATA_FILE,
        depth=depth + 1,
        name=shown,
        path=shown,
        format="data",
        status=words.words,
        tone=words.tone,
        reason=words.sentence,
        grantable=words.grantable,
    )


def _dependents(session: Session) -> list[ChainRow]:
    search = session.dependents
    if search is None:
        return []
    rows = []
    for found in search.found[:_MAX_DEPENDENTS]:
        shown = safe(found.path)
        direct = "It reads through this image: a change here changes what it shows."
        rows.append(
            ChainRow(
                kind=RowKind.DEPENDENT,
                depth=0,
                name=_last_part(shown),
                path=shown,
                status="has its data here" if found.purpose == "data file" else "",
                tone=Tone.NOTE,
                reason=direct
                if found.distance == 1
                else f"It builds on this image through {safe(found.parent)}.",
            )
        )
    more = len(search.found) - len(rows)
    if more > 0:
        rows.append(ChainRow(RowKind.DEPENDENT, 0, f"and {more:,} more", "", tone=Tone.NOTE))
    return rows


def _unserved(session: Session, layers: list[ChainRow], served_total: int) -> list[ChainRow]:
    """The rest of the disk, when every layer was measured."""
    chain = session.chain
    if chain is None or any(row.kind is RowKind.LAYER and row.served is None for row in layers):
        return []
    rest = chain.virtual_size - served_total
    if rest <= 0:
        return []
    share = percent(rest, chain.virtual_size)
    return [
        ChainRow(
            kind=RowKind.UNSERVED,
            depth=0,
            name=f"{size(rest)} in no layer",
            path="",
            tone=Tone.MUTED,
            reason=f"{share} of the disk is stored nowhere and reads as zeros.",
        )
    ]


def _format(opened: str | None, stated: bytes | None) -> str:
    if opened is not None:
        return opened
    return "format not stated" if stated is None else f"stated {safe(stated, 16)}"


def _last_part(path: str) -> str:
    return path.rsplit("/", 1)[-1] or path
