"""What ``amend -o`` can change, and what QEMU says about wishes that cannot be fulfilled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from ..errors import EditRefused, UsageError
from ..image.image import Image
from ..layout.constants import COMPRESSION_TYPE, DIRTY
from ..text import plural, safe

_VERSIONS: Final = {"0.10": 2, "v2": 2, "1.1": 3, "v3": 3}
#: Options of ``create`` that an image keeps for life.
_FOR_CREATION: Final = frozenset(
    {"cluster_size", "compression_type", "encryption", "extended_l2", "preallocation"}
)
_UINT32_MAX: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class AmendOptions:
    """The options of ``amend``, by QEMU's names; None for what stays as it is.

    ``compat``: "0.10" (or "v2") or "1.1" ("v3").  ``size`` is in bytes; 0 means as it is, too.
    ``backing_file`` and ``backing_fmt`` can only be what they are.
    """

    size: int | None = None
    compat: str | None = None
    backing_file: str | None = None
    backing_fmt: str | None = None
    data_file: str | None = None
    data_file_raw: bool | None = None
    lazy_refcounts: bool | None = None
    refcount_bits: int | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> AmendOptions:
        """From values by name.  Raises UsageError for an option that cannot be amended."""
        known = {field.name for field in fields(cls)}
        for name in values:
            if name in known:
                continue
            if name in _FOR_CREATION or name.startswith("encrypt."):
                raise UsageError(
                    f"Invalid parameter '{name}'\nThis option is only supported for image creation"
                )
            raise UsageError(f"Invalid parameter '{safe(name)}'")
        return cls(**values)

    def given(self) -> dict[str, str | int | bool]:
        """What was asked for, by name."""
        every = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in every.items() if value is not None}


class AmendTarget:
    """What the image shall be: its values with the options in their place.

    Raises UsageError and EditRefused, in QEMU's words and order, for what cannot be.
    """

    def __init__(self, image: Image, options: AmendOptions) -> None:
        header = image.header
        self.version = header.version
        if options.compat:
            if options.compat not in _VERSIONS:
                raise UsageError(f"Unknown compatibility level {safe(options.compat)}")
            self.version = _VERSIONS[options.compat]
        self.size = options.size or image.virtual_size
        self.lazy_refcounts = _or(options.lazy_refcounts, header.lazy_refcounts)
        self.data_file_raw = _or(options.data_file_raw, image.data_file_raw)
        self.data_file = image.data_file
        bits = 1 << header.refcount_order
        self.refcount_bits = bits if options.refcount_bits is None else options.refcount_bits
        self._image = image
        self._data_file(options)
        if self.refcount_bits not in (1 << order for order in range(7)):
            raise UsageError("Refcount width must be a power of two and may not exceed 64 bits")
        if self.version < 3 and self.refcount_bits not in (bits, 16):
            raise UsageError(
                "Refcount widths other than 16 bits require compatibility level 1.1 or above "
                "(use compat=1.1 or greater)"
            )
        self._backing(options)
        if self.version < 3 and self.lazy_refcounts and not header.lazy_refcounts:
            raise UsageError(
                "Lazy refcounts only supported with compatibility level 1.1 and above (use "
                "compat=1.1 or greater)"
            )
        if self.downgrade:
            self._require_version_2_possible()
            self.lazy_refcounts = self.data_file_raw = False

    @property
    def upgrade(self) -> bool:
        return self.version > self._image.header.version

    @property
    def downgrade(self) -> bool:
        return self.version < self._image.header.version

    @property
    def refcount_order(self) -> int:
        return self.refcount_bits.bit_length() - 1

    def _data_file(self, options: AmendOptions) -> None:
        if options.data_file is not None:
            if not self._image.header.has_data_file:
                raise UsageError(
                    "data-file can only be set for images that use an external data file"
                )
            if not options.data_file:
                raise UsageError(
                    "The external data file needs a name: without one the image could not be "
                    "opened any more."
                )
            self.data_file = options.data_file.encode("utf-8", "surrogateescape")
        if options.data_file_raw and not self._image.data_file_raw:
            raise UsageError("data-file-raw cannot be set on existing images")

    def _backing(self, options: AmendOptions) -> None:
        """The backing file may be named, and has to be named as it is."""
        if options.backing_file is None and options.backing_fmt is None:
            return
        backing = self._image.backing
        present = (None, None) if backing is None else (backing.name, backing.format)
        wanted = tuple(
            None if text is None else text.encode("utf-8", "surrogateescape")
            for text in (options.backing_file, options.backing_fmt)
        )
        if wanted != present:
            raise EditRefused(
                "Cannot amend the backing file\nYou can use 'rebase' or 'relink' instead."
            )

    def _require_version_2_possible(self) -> None:
        image, header = self._image, self._image.header
        if self.refcount_bits != 16:
            raise EditRefused("compat=0.10 requires refcount_bits=16")
        if header.has_data_file:
            raise EditRefused("Cannot downgrade an image with a data file")
        for snapshot in image.snapshots:
            if snapshot.vm_state_size > _UINT32_MAX or snapshot.disk_size not in (None, self.size):
                raise EditRefused(
                    "Internal snapshots prevent downgrade of image\nVersion 2 does not record the "
                    "size of a snapshot's disk, or of VM states of 4 GiB and more."
                )
        rest = header.incompatible_features & ~(COMPRESSION_TYPE | DIRTY)
        if rest:
            raise EditRefused(f"Cannot downgrade an image with incompatible features {rest:#x} set")
        if image.bitmaps_valid and image.bitmaps:
            # QEMU goes on, loses the bitmaps, and leaks their clusters.
            raise EditRefused(
                "Cannot downgrade an image with "
                f"{plural(len(image.bitmaps), 'persistent bitmap')}: version 2 "
                "cannot hold them.  Remove them first (bitmap --remove)."
            )


def _or(wanted: bool | None, present: bool) -> bool:
    return present if wanted is None else wanted
