"""Every way to write an address, for the go-to prompt.

==================  =============================================================
``0x2c40000``       byte offset, in the order the map is in (host file or guest disk)
``10G`` ``512M``    the same with a unit: K M G T (binary)
``50%``             share of the way through the map
``708``             cluster number, in the order the map is in
``host 0x...``      byte offset (or unit, or cluster) in the host file; ``h:`` for short
``guest 10G``       on the guest disk; ``g:`` for short
``l1:3``            where L1 entry 3 begins on the guest disk
``l2:3/17``         entry 17 of the L2 table of L1 entry 3
``snap:NAME``       the L1 table of a snapshot, by ID or name
==================  =============================================================
"""

from __future__ import annotations

import re
from fractions import Fraction

from qcow.errors import UsageError
from qcow.layout.geometry import Geometry
from qcow.text import safe

from .selection import Selection, select_guest, select_host
from .session import Order, Session
from .units import offset as hexadecimal
from .units import size

_UNITS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmgtp])(?:i?b)?", re.IGNORECASE)
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_HEX = re.compile(r"0x[0-9a-f_]+", re.IGNORECASE)
_NUMBER = re.compile(r"#?\s*(\d[\d,_]*)")
_ORDER = re.compile(r"(h|host|g|guest)(?:\s*:\s*|\s+)(.+)", re.IGNORECASE)
_L1 = re.compile(r"l1\s*[:\[]\s*(\d+)\]?", re.IGNORECASE)
_L2 = re.compile(r"l2\s*[:\[]\s*(\d+)\s*[/,]\s*(\d+)\]?", re.IGNORECASE)
_SNAPSHOT = re.compile(r"snap(?:shot)?\s*:\s*(.+)", re.IGNORECASE)

EXAMPLES = "0x2c40000 · 10G · 512M · 708 (cluster) · l1:3 · l2:3/17 · snap:NAME · 50% · guest 10G"


def parse_address(text: str, session: Session) -> Selection:
    """The place ``text`` means (see the table above).

    Raises UsageError when it is no address or lies outside, NotFoundError for an unknown snapshot.
    Both sentences are safe to show.
    """
    text = text.strip()
    order = session.order
    if matched := _ORDER.fullmatch(text):
        order = Order.HOST if matched[1].lower().startswith("h") else Order.GUEST
        text = matched[2].strip()
    if matched := _SNAPSHOT.fullmatch(text):
        return _snapshot(matched[1], session)
    if matched := _L2.fullmatch(text):
        return _table_entry(int(matched[1]), int(matched[2]), session)
    if matched := _L1.fullmatch(text):
        return _table_entry(int(matched[1]), 0, session)
    end = session.storage.size() if order is Order.HOST else session.image.virtual_size
    position: int | Fraction
    if matched := _HEX.fullmatch(text):
        position = int(text.replace("_", ""), 16)
    elif matched := _BYTES.fullmatch(text):
        position = Fraction(matched[1]) * (1 << _UNITS[matched[2].lower()])
    elif matched := _PERCENT.fullmatch(text):
        share = Fraction(matched[1])
        if share > 100:
            raise UsageError(f"{safe(text)} is more than all of it.")
        position = min(Fraction(max(0, end - 1)), share * end / 100)
    elif matched := _NUMBER.fullmatch(text):
        position = int(matched[1].replace(",", "").replace("_", "")) * session.cluster_size
    else:
        raise UsageError(f'"{safe(text, 40)}" is no address. Try: {EXAMPLES}')
    return _at(int(position), end, order, session)


def _at(position: int, end: int, order: Order, session: Session) -> Selection:
    if position >= end:
        raise UsageError(
            f"{hexadecimal(position)} lies beyond the end of the {order.value} "
            f"({size(end)}, ends at {hexadecimal(end)})."
        )
    if order is Order.HOST:
        return select_host(position // session.cluster_size)
    return select_guest(position)


def _geometry(session: Session) -> Geometry:
    image = session.qcow2
    if image is None:
        raise UsageError("A raw image has no tables and no snapshots: give an offset.")
    if image.geometry is None:
        raise UsageError("The header of this image cannot be used, so its tables are not known.")
    return image.geometry


def _table_entry(l1_index: int, l2_index: int, session: Session) -> Selection:
    geometry = _geometry(session)
    end = session.image.virtual_size
    entries = geometry.l1_entries(end)
    if l1_index >= entries:
        raise UsageError(
            f"There is no L1[{l1_index}]: the L1 table has entries 0 to {entries - 1}."
        )
    if l2_index >= geometry.l2_entries:
        raise UsageError(
            f"There is no L2[{l2_index}]: an L2 table has entries 0 to {geometry.l2_entries - 1}."
        )
    return _at(
        l1_index * geometry.l2_span + (l2_index << geometry.cluster_bits),
        end,
        Order.GUEST,
        session,
    )


def _snapshot(key: str, session: Session) -> Selection:
    geometry = _geometry(session)
    assert session.qcow2 is not None
    snapshot = session.qcow2.find_snapshot(key.strip().strip('"'))
    if snapshot.l1_table_offset >= session.storage.size():
        raise UsageError(
            f'The L1 table of snapshot "{safe(snapshot.name, 40)}" lies beyond the end of the file.'
        )
    return select_host(snapshot.l1_table_offset >> geometry.cluster_bits)
