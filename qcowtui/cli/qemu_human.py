"""qemu-img's human layouts of ``info`` and ``snapshot -l``, made from the objects of its JSON."""

from __future__ import annotations

import time

from qcow.layout.snapshots import Snapshot
from qcow.text import safe

from .qemu_json import Json, JsonObject
from .qemu_size import format_size


def info_lines(info: JsonObject, snapshots: tuple[Snapshot, ...]) -> list[str]:
    """The block of one image; ``info`` is a QDict, whose order counts in the last part."""
    virtual = info["virtual-size"]
    assert isinstance(virtual, int)
    lines = [
        f"image: {_text(info['filename'])}",
        f"file format: {_text(info['format'])}",
        f"virtual size: {format_size(virtual)} ({virtual} bytes)",
    ]
    actual = info.get("actual-size")
    lines.append(f"disk size: {format_size(actual) if isinstance(actual, int) else 'unavailable'}")
    if info.get("encrypted"):
        lines.append("encrypted: yes")
    if "cluster-size" in info:
        lines.append(f"cluster_size: {_text(info['cluster-size'])}")
    if info.get("dirty-flag"):
        lines.append("cleanly shut down: no")
    if "backing-filename" in info:
        lines += _backing_lines(info)
    lines += snapshot_table(snapshots)
    if "format-specific" in info:
        specific = info["format-specific"]
        assert isinstance(specific, dict)
        lines.append("Format specific information:")
        lines += _tree(specific["data"], 1)
    return lines


def _backing_lines(info: JsonObject) -> list[str]:
    name, full = info["backing-filename"], info["full-backing-filename"]
    actual = "" if name == full else f" (actual path: {_text(full)})"
    lines = [f"backing file: {_text(name)}{actual}"]
    if "backing-filename-format" in info:
        lines.append(f"backing file format: {_text(info['backing-filename-format'])}")
    return lines


def snapshot_table(snapshots: tuple[Snapshot, ...]) -> list[str]:
    """``Snapshot list:`` and its rows; nothing without snapshots.  Dates are in local time."""
    if not snapshots:
        return []
    lines = ["Snapshot list:", _row("ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT")]
    for snapshot in snapshots:
        lines.append(
            _row(
                safe(snapshot.id) + " ",
                safe(snapshot.name) + " ",
                format_size(snapshot.vm_state_size),
                time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(snapshot.date_sec)),
                _clock(snapshot.vm_clock_nsec),
                "" if snapshot.icount is None else str(snapshot.icount),
            )
        )
    return lines


def _row(id: str, tag: str, size: str, date: str, clock: str, icount: str) -> str:
    return f"{id:<10}{tag:<17}{size:>8}{date:>20}{clock:>13}{icount:>11}"


def _clock(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    minutes = seconds // 60
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds % 60:02}.{rest // 1_000_000:03}"


def _tree(value: Json, depth: int) -> list[str]:
    """The members of an object or list, one a line, deeper ones indented below."""
    space = "    " * depth
    if isinstance(value, list):
        members = [(f"[{index}]", item) for index, item in enumerate(value)]
    else:
        assert isinstance(value, dict)
        members = [(key.replace("-", " "), item) for key, item in value.items()]
    lines: list[str] = []
    for name, item in members:
        if isinstance(item, (dict, list)):
            lines += [f"{space}{name}:", *_tree(item, depth + 1)]
        else:
            lines.append(f"{space}{name}: {_text(item)}")
    return lines


def _text(value: Json) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, bytes)):
        return safe(value)
    return str(value)
