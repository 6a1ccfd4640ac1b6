"""What is measured, and the target of each (issue numbers: ratio = qemu-img's time / ours)."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Row:
    """One piece of work on one image.

    ``verb`` is given to both programs as it is.  ``ratio`` is how many times faster than qemu-img
    this program has to be, ``peak`` how many bytes it may use at most.  ``slow`` rows take
    qemu-img minutes: its time is measured once and kept.  Without ``ratio`` qemu-img does not
    run at all.
    """

    name: str
    what: str
    image: str
    verb: tuple[str, ...]
    ratio: float | None = None
    peak: int | None = None
    slow: bool = False


_CHECK = ("check",)
_MAP = ("map", "--output=json")

ROWS = (
    Row("check-1t", "check, 1 TiB all allocated", "allocated-1t", _CHECK, 7, 100 * MIB),
    Row("check-1t-refcount-1", "check, 1 TiB, 1-bit refcounts", "refcount-1-1t", _CHECK, 5),
    Row("check-1t-extended", "check, 1 TiB, extended L2", "extended-1t", _CHECK, 5),
    Row("check-16t-2m", "check, 16 TiB at 2 MiB clusters", "clusters-2m-16t", _CHECK, 5),
    Row("check-snapshots", "check, 20 snapshots", "snapshots-20", _CHECK, 5),
    Row("check-damaged", "check, 1 TiB with leaks and errors", "damaged-1t", _CHECK, 5),
    Row("check-256g-4k", "check, 256 GiB at 4 KiB clusters", "clusters-4k-256g", _CHECK, 8),
    Row("check-256g-random", "check, 256 GiB, random order", "random-256g", _CHECK, 100, slow=True),
    Row("check-1t-random", "check, 1 TiB, random order", "random-1t", _CHECK, 100, slow=True),
    Row("map-1t", "map, 1 TiB all allocated", "allocated-1t", _MAP, 2.5),
    Row("map-256g-random", "map, 256 GiB, random order", "random-256g", _MAP, 3),
    Row("map-1t-extended", "map, 1 TiB, extended L2", "extended-1t", _MAP, 1),
    Row("check-64t", "check, 64 TiB with 16 TiB allocated", "sparse-64t", _CHECK, peak=300 * MIB),
)

#: The rows of the app are in :mod:`benchmarks.app`.
APP = "app"

#: ``info`` has targets of its own: CPU time, and what it may not load.
INFO = "info"
INFO_IMAGE = "allocated-1t"
INFO_CPU = 0.080
INFO_NEVER_LOADS = ("textual", "rich", "numpy")
