"""How scattered the guest disk lies in the file, in words; and the L2 cache that finds the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .session import Part, PartState, Session
from .tones import Tone
from .units import count, plural, size

if TYPE_CHECKING:
    from qcow.inspect.fragmentation import Fragmentation, L2Cache, Region


@dataclass(frozen=True, slots=True)
class Fact:
    """One line: ``gloss`` says what the value means."""

    label: str
    value: str
    gloss: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class RegionRow:
    """One part of the guest disk (bytes).  ``heat``: 0.0 in one piece, 1.0 each cluster elsewhere.

    ``heat`` is None where nothing is stored.
    """

    start: int
    length: int
    stored: int  # bytes
    breaks: int
    jumps_back: int
    heat: float | None


@dataclass(frozen=True, slots=True)
class FragmentationView:
    """``note`` says why there is nothing else to show.  ``options`` are to be pasted."""

    note: str = ""
    tone: Tone = Tone.MUTED
    facts: tuple[Fact, ...] = ()
    regions: tuple[RegionRow, ...] = ()
    cache: tuple[Fact, ...] = ()
    options: tuple[str, ...] = ()


def fragmentation_view(session: Session) -> FragmentationView:
    """Everything the pane shows."""
    if session.qcow2 is None:
        return FragmentationView("A raw image is one piece: guest offsets are file offsets.")
    found = session.fragmentation
    if found is None:
        failure = session.failures.get(Part.FRAGMENTATION)
        if failure is not None:
            return FragmentationView(failure, Tone.BAD)
        running = session.state_of(Part.FRAGMENTATION) is PartState.PARTIAL
        return FragmentationView("Being measured ..." if running else "Not measured yet.")
    if not found.runs:
        note = "Nothing is stored in this image, so nothing can be scattered."
        return FragmentationView(note, cache=_cache(found.l2_cache), options=_options(session))
    return FragmentationView(
        facts=_facts(found),
        regions=_regions(found, session.cluster_size),
        cache=_cache(found.l2_cache),
        options=_options(session),
    )


def _facts(found: Fragmentation) -> tuple[Fact, ...]:
    mean = round(found.mean_run)
    verdict = Tone.WARNING if found.percentage >= 50 else Tone.PLAIN
    return (
        Fact("Runs", count(found.runs), "stretches that lie in the file as the guest reads them"),
        Fact("Mean run", size(mean), "read on average before going elsewhere in the file"),
        Fact("Jumps back", count(found.jumps_back), "of the ways lead towards the file's start"),
        Fact(
            "Fragmented",
            f"{found.percentage:.2f} %",
            f"QEMU's number: {plural(found.fragmented_clusters, 'cluster')} of "
            f"{found.allocated_clusters:,} do not follow the one before",
            verdict,
        ),
        Fact(
            "Compressed",
            count(found.compressed_clusters),
            "clusters; QEMU counts each of them as fragmented",
        ),
    )


def _regions(found: Fragmentation, cluster_size: int) -> tuple[RegionRow, ...]:
    return tuple(
        RegionRow(
            region.start,
            region.length,
            min(region.length, region.allocated_clusters * cluster_size),
            region.breaks,
            region.jumps_back,
            _heat(region),
        )
        for region in found.regions
    )


def _heat(region: Region) -> float | None:
    if not region.allocated_clusters:
        return None
    # The way to a region's first cluster is no sign of scatter within it.
    return max(0.0, (region.breaks - 1) / max(1, region.allocated_clusters - 1))


def hottest(regions: Sequence[RegionRow], cells: int) -> list[float | None]:
    """The heat of each cell of a strip; a cell for several regions takes the worst of them."""
    found: list[float | None] = []
    for cell in range(cells):
        first = cell * len(regions) // cells
        last = max(first + 1, (cell + 1) * len(regions) // cells)
        heats = [row.heat for row in regions[first:last] if row.heat is not None]
        found.append(max(heats, default=None))
    return found


def _cache(cache: L2Cache) -> tuple[Fact, ...]:
    enough = cache.default_suffices
    verdict = "enough" if enough else f"covers {size(cache.default_covers)} of the disk"
    return (
        Fact("L2 tables", size(cache.tables), "present in this state"),
        Fact("Cache needed", size(cache.needed), "to keep the map of the whole disk in memory"),
        Fact(
            "QEMU's default",
            size(cache.default),
            verdict,
            Tone.GOOD if enough else Tone.WARNING,
        ),
    )


def _options(session: Session) -> tuple[str, ...]:
    found = session.fragmentation
    if found is None:
        return ()
    from qcow.inspect.cache_options import l2_cache_options

    options = l2_cache_options(session.path, found.l2_cache.needed)
    return options.blockdev, options.drive


def region_words(row: RegionRow) -> str:
    """What one region is like, in a sentence."""
    if row.heat is None:
        return "Nothing is stored here."
    words = f"{size(row.stored)} stored, {plural(row.breaks, 'break')}"
    words += f", {plural(row.jumps_back, 'jump')} back" if row.jumps_back else ""
    return words
