"""The action of ``amend``: other format options for an image that exists.

The order is QEMU's: upgrade, refcount width, data file, lazy refcounts, size, and last downgrade.
All but another size becomes live with one switch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..edit.editor import Editor
from ..edit.expanding import expand_zero_clusters, has_compressed_clusters
from ..edit.plan import Outcome
from ..edit.transaction import Transaction
from ..errors import EditRefused
from ..layout.constants import (
    COMPRESSION_TYPE,
    COMPRESSION_ZLIB,
    DATA_FILE_RAW,
    KNOWN_HEADER_LENGTH,
    LAZY_REFCOUNTS,
    V2_HEADER_LENGTH,
)
from ..layout.features import qemu_feature_names
from ..layout.snapshots import Snapshot
from ..record import record, replace
from ..text import plural, safe
from .amend_options import AmendOptions, AmendTarget
from .command_line import command_line
from .resize import Resize

#: vm_state_size, disk_size, icount: what QEMU records in version 3.
_SNAPSHOT_EXTRA = 24
#: Clusters looked at together.
_WINDOW = 1 << 20


@record
class Amend:
    """Give the image other ``options``.  Guest data, snapshots and their content stay.

    Raises UsageError and EditRefused, where QEMU refuses too in its words; then nothing changed,
    except that an upgrade that a new size needs comes before it.
    """

    options: AmendOptions
    verb = "amend"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        pairs = (f"{name}={_text(value)}" for name, value in self.options.given().items())
        return command_line("amend", "-o", ",".join(pairs), path)

    def describe(self) -> dict[str, Any]:
        given = self.options.given().items()
        shown = {name: safe(value) if isinstance(value, str) else value for name, value in given}
        return {"verb": "amend", "options": shown}

    def run(self, editor: Editor) -> Outcome:
        target = AmendTarget(editor.image, self.options)
        done = _Done()
        resize = None
        if target.size != editor.image.virtual_size:
            if target.upgrade:  # version 2 cannot resize a disk with snapshots
                _commit(editor, target, done, upgrade_only=True)
            resize = Resize(target.size, shrink=True).run(editor)
            done.steps += resize.steps
        _commit(editor, target, done)
        return Outcome(
            summary=" ".join(
                (*done.said, *([resize.summary] if resize else [])) or ("Nothing has to change.",)
            ),
            steps=tuple(done.steps),
            warnings=(*done.warnings, *(resize.warnings if resize else ())),
            loses=resize.loses if resize else "",
            changed=resize.changed if resize else (),
            changed_bytes=resize.changed_bytes if resize else 0,
            no_undo=resize.no_undo if resize else "",
            facts={**done.facts, **(resize.facts if resize else {})},
        )


class _Done:
    """What was done, in sentences and numbers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.steps: list[str] = []
        self.warnings: list[str] = []
        self.facts: dict[str, Any] = {}


def _commit(
    editor: Editor, target: AmendTarget, done: _Done, *, upgrade_only: bool = False
) -> None:
    """Bring all but the size from what the present image has to what ``target`` says."""
    header = editor.image.header
    tx = editor.begin()
    moved = False
    if target.version > header.version:
        _upgrade(tx)
        done.said.append("Upgrades the image to compat 1.1 (version 3).")
    if not upgrade_only:
        _refcounts(tx, target, done)
        _data_file(tx, target, done)
        _lazy(tx, target, done)
    if target.version < header.version:
        moved = _downgrade(editor, tx, done)
        done.said.append("Downgrades the image to compat 0.10 (version 2).")
    editor.commit(tx, tx.kept_views(moved=moved))


def _upgrade(tx: Transaction) -> None:
    """Version 3 has a longer header, names for its features, and says each snapshot's size."""
    tx.change_header(version=3, header_length=KNOWN_HEADER_LENGTH)
    tx.header_cluster = tx.header_cluster.with_feature_names(
        qemu_feature_names(tx.geometry.cluster_size)
    )
    for draft in tx.snapshots:
        draft.entry = _with_size(draft.entry, tx.image.virtual_size)


def _with_size(entry: Snapshot, size: int) -> Snapshot:
    if entry.extra_size >= _SNAPSHOT_EXTRA:
        return entry
    extra = entry.extra.ljust(_SNAPSHOT_EXTRA, b"\0")
    known = size if entry.disk_size is None else entry.disk_size
    return replace(entry, disk_size=known, extra=extra, extra_size=len(extra))


def _refcounts(tx: Transaction, target: AmendTarget, done: _Done) -> None:
    old = tx.image.header.refcount_order
    if target.refcount_order == old:
        return
    if target.refcount_order < old:
        highest = (1 << target.refcount_bits) - 1
        over = _first_above(tx, highest)
        if over is not None:
            raise EditRefused(
                f"Cannot decrease refcount entry width to {target.refcount_bits} bits: Cluster at "
                f"offset {over << tx.geometry.cluster_bits:#x} has a refcount of "
                f"{int(tx.ledger.counts_in(over, over + 1)[0])}"
            )
    tx.change_header(refcount_order=target.refcount_order)
    done.said.append(f"Makes refcounts {target.refcount_bits} bits wide instead of {1 << old}.")
    done.steps.append("Writes every refcount block anew.")


def _first_above(tx: Transaction, highest: int) -> int | None:
    """The first host cluster with more references than that."""
    for at in range(0, tx.ledger.last_used() + 1, _WINDOW):
        over = np.flatnonzero(tx.ledger.counts_in(at, at + _WINDOW) > highest)
        if len(over):
            return at + int(over[0])
    return None


def _data_file(tx: Transaction, target: AmendTarget, done: _Done) -> None:
    image = tx.image
    if image.data_file_raw and not target.data_file_raw:
        tx.change_header(autoclear_features=tx.header.autoclear_features & ~DATA_FILE_RAW)
        done.said.append("No longer promises that the data file is readable as a raw image.")
    if target.data_file != image.data_file and target.data_file is not None:
        tx.header_cluster = tx.header_cluster.with_data_file(target.data_file)
        shown = safe(target.data_file)
        done.said.append(f"Names '{shown}' as the external data file.")
        done.warnings.append(
            f"Nothing is copied to '{shown}': it has to hold the guest data, at the same offsets."
        )


def _lazy(tx: Transaction, target: AmendTarget, done: _Done) -> None:
    features = tx.header.compatible_features
    if bool(features & LAZY_REFCOUNTS) == target.lazy_refcounts:
        return
    tx.change_header(compatible_features=features ^ LAZY_REFCOUNTS)
    done.said.append(f"Switches lazy refcounts {'on' if target.lazy_refcounts else 'off'}.")


def _downgrade(editor: Editor, tx: Transaction, done: _Done) -> bool:
    """Leave nothing that version 2 does not have; whether any entry had to change for that."""
    image = tx.image
    if image.header.has_compression_type_bit and has_compressed_clusters(tx):
        raise EditRefused(
            "Cannot downgrade an image with zstd compression type and existing compressed clusters"
        )
    changed, allocated = expand_zero_clusters(tx, is_device=editor.is_device)
    if allocated and image.encrypted:
        raise EditRefused(
            "Cannot downgrade an encrypted image with zero clusters over a backing file: without "
            "the key, no cluster can be written that reads as zeros."
        )
    done.facts |= {"zero-clusters": changed, "allocated-clusters": allocated}
    if changed:
        done.steps.append(f"Turns {plural(changed, 'zero cluster')} into what version 2 can say.")
    if allocated:
        done.warnings.append(
            f"Allocates {plural(allocated, 'cluster')} of zeros, to keep the backing file hidden."
        )
    cluster = tx.header_cluster.with_feature_names(None)
    tx.header_cluster = cluster.with_bitmaps(None)  # stale ones, which are worth nothing
    tx.change_header(
        version=2,
        header_length=V2_HEADER_LENGTH,
        incompatible_features=tx.header.incompatible_features & ~COMPRESSION_TYPE,
        compatible_features=0,
        autoclear_features=0,
        compression_type=COMPRESSION_ZLIB,
    )
    return bool(changed)


def _text(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value).replace(",", ",,")
