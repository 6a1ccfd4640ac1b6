"""``compact`` on tiny images of every kind: what it saves, what a crash leaves, what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcow.actions.compact import Compact
from qcow.actions.compacting.layout import lay_out, shortest
from qcow.actions.compacting.room import LEAST, MOST, spare_for
from qcow.actions.compacting.survey import DATA, FIXED, FREE, PACKED, Survey
from qcow.actions.history import Reclaim
from qcow.edit.editor import Editor
from qcow.errors import EditRefused, QcowError, UsageError
from qcow.image.image import Image
from qcow.storage.memory import WritableMemory
from qcow.storage.overlay import OverlayStorage
from qcowtui.samples.builder import ImageBuilder
from tests.crash.acting import act, editor_over
from tests.crash.variants import VARIANTS, Variant
from tests.support.images import noise, pattern
from tests.support.storages import Fault, FaultyStorage, Forwarding, Killed

#: So small that even a tiny image takes several rounds.
SPARE = 8 << 10

_EVERY = [variant for variant in VARIANTS if variant.name != "luks"]
_SMALL = [variant for variant in _EVERY if not variant.large and variant.data is None]
_MODES = {
    "plain": Compact(spare=SPARE),
    "zeroes": Compact(spare=SPARE, zeroes=True),
    "defragment": Compact(spare=SPARE, defragment=True),
    "undo": Compact(reclaim=False, zeroes=True),
}


def _named(variants: list[Variant]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("variant", variants, ids=lambda variant: variant.name)


@_named(_EVERY)
@pytest.mark.parametrize("mode", list(_MODES))
def test_what_a_crash_leaves(variant: Variant, mode: str) -> None:
    """Every state is one complete image that shows what all states showed before."""
    acted = act(variant, [_MODES[mode]])
    assert len(acted.views) == 1, "no switch changes what a guest or a snapshot shows"
    assert acted.judge(acted.final, acted.final_data) is None
    for number, state in enumerate(acted.states()):
        assert acted.judge(state.file, state.data) is None, state.label
        if number == (12 if variant.large else 50):
            break


@_named(_SMALL)
def test_ends_where_the_number_of_clusters_says(variant: Variant) -> None:
    acted = act(variant, [Compact(spare=SPARE)])
    image = Image(WritableMemory(acted.final))
    geometry = image.usable_geometry()
    used = _used(image)
    assert len(acted.final) == (int(used[-1]) + 1) * geometry.cluster_size
    assert len(used) == used[-1] + 1, "no hole is left"
    assert len(acted.final) < len(acted.base)
    again = act(variant, [Compact(spare=SPARE)], acted.final)
    assert again.final == acted.final


@_named(_SMALL)
def test_plan_tells_what_happens(variant: Variant) -> None:
    for action in _MODES.values():
        base = WritableMemory(variant.make())
        overlay = OverlayStorage(base)
        with editor_over(WritableMemory(variant.make()), variant) as real:
            planned = _run(Editor(Image(overlay), overlay, dry=True, gate=real.gate), action)
            done = _run(real, action)
            assert planned["file-length-after"] == done["file-length-after"]
            assert planned["file-length-after"] == real.storage.size()
            for name in ("bytes-written", "switches", "extra-space", "freed", "clusters-moved"):
                assert planned[name] == done[name], name
            assert planned["saved-length"] == done["saved-length"]
        assert base.contents() == variant.make()


@_named(_SMALL)
def test_grows_no_more_than_the_spare_room(variant: Variant) -> None:
    base = variant.make()
    image = Image(WritableMemory(base))
    size = image.usable_geometry().cluster_size
    growing = _Growing(WritableMemory(base))
    with editor_over(growing, variant) as editor:
        _run(editor, Compact(spare=32 << 10))
    # The tables of one round may need more than there is to spare.
    tables = sum(len(state.l1()) for state in image.states()) + 24
    assert growing.longest <= len(base) + max(32 << 10, tables * size)


@_named([variant for variant in _SMALL if variant.name in ("three-snapshots", "zstd", "bitmaps")])
@pytest.mark.parametrize("fault", [Fault.KILL, Fault.KILL_HALFWAY, Fault.EIO, Fault.ENOSPC])
def test_killed_at_any_call_and_run_again(variant: Variant, fault: Fault) -> None:
    acted = act(variant, [Compact(spare=SPARE)])
    at, struck = 0, True
    while struck:
        memory = WritableMemory(acted.base)
        faulty = FaultyStorage(memory, at, fault)
        with editor_over(faulty, variant) as editor:
            try:
                _run(editor, Compact(spare=SPARE))
            except (Killed, QcowError):
                assert faulty.struck
        struck = faulty.struck
        left = memory.contents()
        assert acted.judge(left) is None, faulty.struck_at
        again = act(variant, [Compact(spare=SPARE)], left)
        assert len(again.final) == len(acted.final)
        assert again.judge(again.final) is None
        at += 11


def test_zeroes_become_zero_clusters() -> None:
    for version, backing in ((3, False), (3, True), (2, False), (2, True)):
        builder = ImageBuilder(virtual_size=1 << 20, cluster_bits=12, version=version)
        for number in range(20):
            builder.data(number, bytes(4096) if number % 4 == 1 else pattern(number, 4096))
        builder.snapshot("s0", date=1_750_000_000)
        builder.data(2, pattern(102, 4096))
        if backing:
            builder.backing("base.raw", "raw")
        built = builder.build()
        storage = WritableMemory(built.peek(0, built.length))
        before = [state.read(0, 20 * 4096) for state in Image(storage).states()]
        with Editor(Image(storage), storage) as editor:
            done = _run(editor, Compact(zeroes=True))
            kept = version == 2 and backing
            assert done["clusters-zeroed"] == (0 if kept else 5)
            assert bool(done["warnings"]) == kept
            assert [state.read(0, 20 * 4096) for state in editor.image.states()] == before
            entries = next(iter(editor.image.active.windows(0, 20))).entries
            assert entries is not None
            zero = np.flatnonzero(entries == (1 if version == 3 else 0)).tolist()
            assert zero == ([] if kept else [1, 5, 9, 13, 17])


def test_defragmented_data_lies_in_order() -> None:
    builder = ImageBuilder(virtual_size=1 << 20, cluster_bits=12)
    for number in reversed(range(100)):
        builder.data(number, noise(number, 4096))
    builder.snapshot("s0", date=1_750_000_000)
    for number in range(0, 100, 3):
        builder.data(number, noise(1000 + number, 4096))
    built = builder.build()
    storage = WritableMemory(built.peek(0, built.length))
    before = [state.read(0, 1 << 19) for state in Image(storage).states()]
    with Editor(Image(storage), storage) as editor:
        done = _run(editor, Compact(defragment=True, spare=128 << 10))
        entries = next(iter(editor.image.active.windows(0, 100))).entries
        assert entries is not None
        places = (entries & np.uint64(0x00FFFFFFFFFFFE00)).astype(np.int64)
        assert (np.diff(places) == 4096).all()
        assert done["clusters-ordered"] >= 100
        assert [state.read(0, 1 << 19) for state in editor.image.states()] == before


def test_keeping_undo_leaves_the_old_root_whole() -> None:
    builder = ImageBuilder(virtual_size=4 << 20, cluster_bits=12)
    for number in range(300):
        builder.data(number, noise(number, 4096), at=None if number < 200 else 300 + number)
    built = builder.build()
    base = built.peek(0, built.length)
    storage = WritableMemory(base)
    with Editor(Image(storage), storage) as editor:
        done = _run(editor, Compact(reclaim=False))
        assert (done["switches"], done["undo"]) == (1, True)
        changed = np.frombuffer(storage.contents()[: len(base)], dtype=np.uint8)
        different = np.flatnonzero(changed != np.frombuffer(base, dtype=np.uint8)) // 4096
        used = _used(Image(WritableMemory(base)))
        assert set(different.tolist()) & set(used.tolist()) <= {0}
        length = editor.storage.size()
        _run(editor, Reclaim())
        assert editor.storage.size() < length


def test_refusals() -> None:
    variant = next(variant for variant in VARIANTS if variant.name == "luks")
    with editor_over(WritableMemory(variant.make()), variant) as editor:
        with pytest.raises(EditRefused, match="LUKS"):
            Compact().run(editor)
        with pytest.raises(UsageError):
            Compact(defragment=True, reclaim=False).run(editor)
        with pytest.raises(UsageError):
            Compact(spare=-1).run(editor)


def test_spare_follows_the_room() -> None:
    assert spare_for(None) == LEAST
    assert spare_for(1 << 40) == MOST
    assert spare_for(100 << 20) == LEAST
    for room in (1 << 20, 6 << 20, 20 << 20, 1 << 30):
        assert spare_for(room) <= room // 2


def test_layout_goes_around_what_cannot_move() -> None:
    roles = np.full(40, FREE, dtype=np.uint8)
    roles[0] = FIXED
    roles[[5, 20, 39]] = DATA
    layout = lay_out(Survey(roles, np.zeros((0, 2), dtype=np.int64), 2), 1024)
    assert layout.end == shortest(4 + 2, 1024) == 7
    assert (layout.window, layout.reserved) == (4, 3)
    roles[30] = FIXED
    layout = lay_out(Survey(roles, np.zeros((0, 2), dtype=np.int64), 2), 1024)
    assert layout.end == 31
    assert layout.window + layout.reserved <= 30
    # A run goes where its clusters stay side by side, or stays.
    roles[33:37] = PACKED
    runs = np.array([[33, 4]], dtype=np.int64)
    layout = lay_out(Survey(roles, runs, 2), 1024)
    assert layout.end == 31
    assert [part.tolist() for part in layout.runs] == [[33], [1], [4]]
    roles[1:30:2] = DATA
    layout = lay_out(Survey(roles, runs, 2), 1024)
    assert layout.end >= 37
    assert not len(layout.runs.old)


class _Growing(Forwarding):
    longest = 0

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        super().write(offset, data)
        self.longest = max(self.longest, self.size())


def _used(image: Image) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    from qcow.image.refcounts import refcount_windows

    found = [
        np.flatnonzero(window.counts) + window.first
        for window in refcount_windows(image)
        if window.counts is not None
    ]
    return np.concatenate(found)


def _run(editor: Editor, action: Compact | Reclaim) -> dict[str, Any]:
    editor.start_count()
    outcome = action.run(editor)
    return editor.planned(action.verb, outcome).to_json()
