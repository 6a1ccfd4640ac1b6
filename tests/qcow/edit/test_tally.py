"""Refcounts that are loaded where they are asked for, beside all of them loaded at once."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from qcow.edit.ledger import LIVE, Ledger
from qcow.edit.tally import WINDOW
from qcow.errors import NoSpaceError, QcowError
from qcow.image.image import Image
from qcow.image.refcounts import refcount_table
from qcow.storage.memory import MemoryStorage
from qcowtui.samples.builder import ImageBuilder

CLUSTERS = 3000


def full() -> bytes:
    builder = ImageBuilder(virtual_size=CLUSTERS * 512, cluster_bits=9)
    for cluster in range(CLUSTERS):
        builder.data(cluster, b"x")
    return whole(builder)


def whole(builder: ImageBuilder) -> bytes:
    built = builder.build()
    return built.peek(0, built.length)


def image(order: int, seed: int) -> Image:
    """Full stretches and holes, in refcounts of ``1 << order`` bits; nothing else is sound."""
    chosen = random.Random(seed)
    builder = ImageBuilder(virtual_size=CLUSTERS * 512, cluster_bits=9, refcount_order=order)
    for cluster in range(CLUSTERS):
        builder.data(cluster, b"x")
    content = bytearray(whole(builder))
    for block in refcount_table(Image(MemoryStorage(bytes(content)))).tolist():
        if block and chosen.random() < 0.4:
            start = block + chosen.randrange(500)
            end = min(block + 512, start + chosen.randrange(1, 512))
            content[start:end] = bytes(end - start)
    return Image(MemoryStorage(bytes(content)))


def both(order: int, seed: int, limit: int | None = None) -> tuple[Ledger, Ledger]:
    """One that loads when it is asked, and one that has loaded everything."""
    lazy, eager = (Ledger(image(order, seed), limit) for _ in range(2))
    eager.counts_in(0, eager.capacity)
    return lazy, eager


def outcome(act: Callable[[], object]) -> object:
    try:
        found = act()
    except QcowError as error:
        return type(error)
    return found.tolist() if isinstance(found, np.ndarray) else found


@pytest.mark.parametrize("order", [0, 4, 6])
@pytest.mark.parametrize("seed", range(12))
def test_every_answer_is_the_same(monkeypatch: pytest.MonkeyPatch, order: int, seed: int) -> None:
    monkeypatch.setattr("qcow.edit.tally.WINDOW", 64)
    monkeypatch.setattr("qcow.edit.ledger.WINDOW", 64)
    chosen = random.Random(seed)
    lazy, eager = both(order, seed, 8000 if seed % 3 == 0 else None)
    if seed % 2:
        other = image(order, seed + 100)
        lazy.hold(other)
        eager.hold(other)
    for _ in range(40):
        first, count = chosen.randrange(CLUSTERS), chosen.randrange(1, 90)
        some = np.array([chosen.randrange(2 * CLUSTERS) for _ in range(count)], dtype=np.int64)
        act = chosen.choice(
            (
                lambda ledger: ledger.allocate(count),  # noqa: B023 (called at once)
                lambda ledger: ledger.allocate_run(count),  # noqa: B023
                lambda ledger: ledger.seek(first),  # noqa: B023
                lambda ledger: ledger.single(some),  # noqa: B023
                lambda ledger: ledger.add(some, 1),  # noqa: B023
                lambda ledger: ledger.add_run(first, count, 1),  # noqa: B023
                lambda ledger: ledger.last_used(),
                lambda ledger: ledger.free(first, first + count),  # noqa: B023
                lambda ledger: ledger.marks_of(some),  # noqa: B023
                lambda ledger: ledger.counts_of(some),  # noqa: B023
                lambda ledger: ledger.reserve(first, first + count),  # noqa: B023
                lambda ledger: ledger.unreserve(first, first + count),  # noqa: B023
            )
        )
        assert outcome(lambda: act(lazy)) == outcome(lambda: act(eager))  # noqa: B023
    assert taken(lazy) == taken(eager)
    end = max(lazy.capacity, eager.capacity)
    assert np.array_equal(lazy.counts_in(0, end), eager.counts_in(0, end))
    assert np.array_equal(lazy.marks_in(0, end), eager.marks_in(0, end))


def taken(ledger: Ledger) -> list[int]:
    return [first + at for first, found in ledger.taken() for at in np.flatnonzero(found).tolist()]


def test_full_windows_are_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcow.edit.tally.WINDOW", 64)
    monkeypatch.setattr("qcow.edit.ledger.WINDOW", 64)
    content = full()
    ledger = Ledger(Image(MemoryStorage(content)))
    first = ledger.allocate_run(5)
    assert first * 512 >= len(content)
    everywhere = np.arange(1, len(content) // 512, 50, dtype=np.int64)
    assert ledger.single(everywhere).all()
    loaded = sum(stop - start for start, stop in ledger.touched())
    assert loaded < 600, "the end of the file, and no more"
    assert (ledger.marks_of(everywhere) & LIVE).all()


def test_a_full_device_has_no_room() -> None:
    ledger = Ledger(image(4, 1), 100)
    with pytest.raises(NoSpaceError):
        ledger.allocate(5000)
    assert WINDOW >= 1 << 16
