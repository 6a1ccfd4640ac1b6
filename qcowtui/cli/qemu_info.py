"""What qemu-img tells about an image, as the objects its JSON is made of.

Members are put in in the order of QEMU's schema, which :func:`qcowtui.cli.qemu_json.qdict` needs.
"""

from __future__ import annotations

import os

from qcow.errors import StorageError
from qcow.image.image import Image
from qcow.layout.bitmaps import BitmapEntry
from qcow.layout.constants import COMPRESSION_NAMES
from qcow.layout.luks import LuksHeader
from qcow.layout.snapshots import Snapshot
from qcow.opening import AnyImage
from qcow.storage.gate import combine

from .qemu_json import Json, JsonObject

_NANOSECONDS = 1_000_000_000


def image_info(image: AnyImage) -> JsonObject:
    """What ``info`` says of one image that QEMU would open (ImageInfo in QEMU's schema)."""
    info: JsonObject = {"filename": os.fsencode(image.name), "format": image.format}
    qcow2 = image if isinstance(image, Image) else None
    info["dirty-flag"] = qcow2 is not None and qcow2.header.dirty
    allocated = image.storage.allocated_bytes()
    if allocated is not None:
        info["actual-size"] = allocated
    info["virtual-size"] = image.virtual_size
    if qcow2 is None:
        return info
    info["cluster-size"] = qcow2.header.cluster_size
    if qcow2.encrypted:
        info["encrypted"] = True
    if qcow2.backing is not None:
        info["backing-filename"] = qcow2.backing.name
        info["full-backing-filename"] = os.fsencode(backing_path(qcow2))
        if qcow2.backing.format:
            info["backing-filename-format"] = qcow2.backing.format
    if qcow2.snapshots:
        info["snapshots"] = [snapshot_info(snapshot) for snapshot in qcow2.snapshots]
    info["format-specific"] = {"type": "qcow2", "data": _qcow2_info(qcow2)}
    return info


def backing_path(image: Image) -> str:
    """The backing file's name as QEMU puts it together with the image's; judged by nobody."""
    if image.backing is None:
        raise StorageError("There is no backing file.")
    return combine(image.name, image.backing.name)


def snapshot_info(snapshot: Snapshot) -> JsonObject:
    """SnapshotInfo in QEMU's schema."""
    info: JsonObject = {
        "id": snapshot.id,
        "name": snapshot.name,
        "vm-state-size": snapshot.vm_state_size,
        "date-sec": snapshot.date_sec,
        "date-nsec": snapshot.date_nsec,
        "vm-clock-sec": snapshot.vm_clock_nsec // _NANOSECONDS,
        "vm-clock-nsec": snapshot.vm_clock_nsec % _NANOSECONDS,
    }
    if snapshot.icount is not None:
        info["icount"] = snapshot.icount
    return info


def _qcow2_info(image: Image) -> JsonObject:
    header = image.header
    info: JsonObject = {"compat": header.compat}
    if header.version >= 3:
        if image.data_file is not None:
            info["data-file"] = image.data_file
        if header.has_data_file:
            info["data-file-raw"] = image.data_file_raw
        info["extended-l2"] = header.extended_l2
        info["lazy-refcounts"] = header.lazy_refcounts
        info["corrupt"] = header.corrupt
    info["refcount-bits"] = 1 << header.refcount_order
    if image.encrypted:
        info["encrypt"] = _encryption_info(image)
    if image.bitmaps_valid and image.bitmaps:
        info["bitmaps"] = [_bitmap_info(entry) for entry in image.bitmaps]
    info["compression-type"] = COMPRESSION_NAMES[header.compression_type]
    return info


def _bitmap_info(entry: BitmapEntry) -> JsonObject:
    flags: list[Json] = []
    if entry.in_use:
        flags.append("in-use")
    if entry.auto:
        flags.append("auto")
    return {"name": entry.name, "granularity": entry.granularity, "flags": flags}


def _encryption_info(image: Image) -> JsonObject:
    if image.luks is None:
        return {"format": "aes"}
    return {"format": "luks", **_luks_info(image.luks)}


def _luks_info(luks: LuksHeader) -> JsonObject:
    info: JsonObject = {
        "cipher-alg": luks.cipher_algorithm,
        "cipher-mode": luks.cipher_mode,
        "ivgen-alg": luks.ivgen,
    }
    if luks.ivgen_hash is not None:
        info["ivgen-hash-alg"] = luks.ivgen_hash
    info["hash-alg"] = luks.hash
    info["payload-offset"] = luks.payload_offset
    info["master-key-iters"] = luks.master_key_iterations
    info["uuid"] = luks.uuid
    slots: list[Json] = []
    for slot in luks.slots:
        members: JsonObject = {"active": slot.active}
        if slot.active:
            members["iters"] = slot.iterations
            members["stripes"] = slot.stripes
        members["key-offset"] = slot.key_offset
        slots.append(members)
    info["slots"] = slots
    return info
