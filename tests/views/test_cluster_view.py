"""One cluster in words: its owners down to the state, and whether the count is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcow.layout.constants import OFFSET_MASK
from qcowtui.samples.builder import ImageBuilder
from qcowtui.samples.damage import leak_clusters, lower_refcounts, overlap_l1_table
from qcowtui.views.cluster_view import ClusterView, cluster_view
from qcowtui.views.decode import Structure, notes_near, readings_of
from qcowtui.views.selection import Selection, select_guest, select_host
from qcowtui.views.tones import Tone
from qcowtui.views.work import HOST_MAP

from ..support.images import pattern, small_builder
from .opened import looked_up, opened

SIZE = 65536


def viewed(path: Path, place: Selection) -> ClusterView:
    with opened(path, HOST_MAP) as session:
        return cluster_view(session, looked_up(session, place))


def test_data_is_traced_to_every_state(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=64 << 20)
    host = builder.data(37, b"kept")
    builder.data(38, b"old")
    builder.snapshot("first")
    builder.snapshot("second")
    builder.data(38, b"new")  # the active state gets an L2 table of its own
    old, new = builder.model.snapshots[0].l1[0].cluster, builder.model.l1[0].cluster
    path = builder.write(tmp_path / "a.qcow2")
    view = viewed(path, select_host(host))
    assert [one.text for one in view.owners] == [
        f"guest 0x250000 ← L2[37] at {new * SIZE + 37 * 8:#x} ← L1[0] of active",
        f"guest 0x250000 ← L2[37] at {old * SIZE + 37 * 8:#x} ← L1[0] of first, second",
    ]
    assert [one.pointer for one in view.owners] == [new * SIZE + 37 * 8, old * SIZE + 37 * 8]
    assert view.counts == "refcount on disk 3, references found 3: they agree"
    assert view.counts_tone is Tone.GOOD
    assert view.note == "Guest data that several states share."
    assert view.title.startswith(f"Cluster {host} of ")
    assert view.title.endswith(f"host {host * SIZE:#x} · guest 0x250000 (2.3 MiB)")


@pytest.mark.parametrize(
    ("structure", "text"),
    [
        ("header", "header, always used"),
        ("refcount table", "refcount table ← header"),
        ("l1", "L1 table of active ← header"),
        ("snapshot l1", "L1 table of first ← snapshot table"),
        ("snapshot table", "snapshot table ← header"),
        ("l2", "L2 table from guest 0x0 on ← L1[0]"),
        ("refcount block", "refcount block ← refcount table [0]"),
        ("bitmap directory", "bitmap directory ← header extension"),
        ("bitmap table", "bitmap table ← bitmap directory"),
        ("bitmap data", "bitmap data ← bitmap table [0]"),
    ],
)
def test_each_structure_says_whose_it_is(tmp_path: Path, structure: str, text: str) -> None:
    builder = small_builder()
    builder.bitmap("b", [(0, 1 << 20)])
    model = builder.model
    built = builder.build()
    table_at = built.header("refcount_table_offset")
    bitmap = model.bitmaps[0]
    clusters = {
        "header": 0,
        "refcount table": table_at // SIZE,
        "l1": model.l1_cluster,
        "snapshot l1": model.snapshots[0].l1_cluster,
        "snapshot table": model.snapshot_table.start,
        "l2": model.l1[0].cluster,
        "refcount block": built.u64(table_at) // SIZE,
        "bitmap directory": model.bitmap_directory.start,
        "bitmap table": bitmap.table_cluster,
        "bitmap data": (bitmap.table[0] & OFFSET_MASK) // SIZE,
    }
    view = viewed(built.save(tmp_path / "a.qcow2"), select_host(clusters[structure]))
    assert [one.text[: len(text)] for one in view.owners] == [text]
    assert view.counts_tone is Tone.GOOD


def test_compressed_clusters_share(tmp_path: Path) -> None:
    builder = small_builder(snapshot=False)
    table = builder.model.l1[0]
    host = builder.geometry.compressed_extent(table.entries[12])[0] // SIZE
    view = viewed(builder.write(tmp_path / "a.qcow2"), select_host(host))
    assert view.owners[0].text.startswith("compressed guest 0xc0000 ← L2[12]")
    assert len(view.owners) > 1
    assert view.note.startswith("Compressed guest data")


def test_vm_state_is_no_guest_data(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 20)
    builder.data(0, b"x")
    builder.snapshot("s", vm_state=[pattern(1, SIZE)])
    beyond = builder.geometry.l2_entries
    entry = builder.model.snapshots[0].l1[1].entries[0]
    view = viewed(builder.write(tmp_path / "a.qcow2"), select_host((entry & OFFSET_MASK) // SIZE))
    assert view.owners[0].text.startswith(f"VM state at {beyond * SIZE:#x} ← L2[0]")
    assert view.note == "Memory of a machine, saved with a snapshot."


def test_counts_that_disagree(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 20)
    hosts = [builder.data(number, pattern(number, SIZE)) for number in range(4)]
    built = builder.build()
    lower_refcounts(built, [1])
    built.set_refcount(hosts[2], 3)
    leaked = built.nb_clusters
    leak_clusters(built, 1)
    path = built.save(tmp_path / "a.qcow2")
    low = viewed(path, select_host(hosts[1]))
    assert (low.counts, low.counts_tone) == (
        "refcount on disk 0, references found 1: counted too seldom",
        Tone.BAD,
    )
    high = viewed(path, select_host(hosts[2]))
    assert high.counts == "refcount on disk 3, references found 1: counted too often (leak)"
    lost = viewed(path, select_host(leaked))
    assert lost.note.startswith("Leaked: counted as used")
    assert (lost.owners, lost.tone) == ((), Tone.WARNING)


def test_two_owners_can_each_be_read(tmp_path: Path) -> None:
    builder = small_builder()
    built = builder.build()
    overlap_l1_table(built, 3)
    with opened(built.save(tmp_path / "a.qcow2"), HOST_MAP) as session:
        place = looked_up(session, select_host(builder.model.l1_cluster))
        view = cluster_view(session, place)
        assert view.tone is Tone.BAD
        assert {one.text.split(" ")[0] for one in view.owners} == {"L1", "guest"}
        assert [one.structure for one in readings_of(session, place)] == [
            Structure.L1,
            Structure.DATA,
        ]


def test_a_leaked_cluster_may_be_a_lost_table(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 20)
    builder.data(5, b"x")
    table = builder.model.l1[0]
    built = builder.build()
    built.set_u64(built.l1_offset(0), 0)
    with opened(built.save(tmp_path / "a.qcow2"), HOST_MAP) as session:
        place = looked_up(session, select_host(table.cluster))
        readings = readings_of(session, place)
        assert [one.structure for one in readings] == [
            Structure.DATA,
            Structure.L2,
            Structure.REFCOUNT_BLOCK,
        ]
        data = session.file.read(table.cluster * SIZE, SIZE)
        notes, _ = notes_near(readings[1], data, table.cluster * SIZE + 40)
        entry = next(note for note in notes if note.label == "L2[5]")
        assert entry.start == table.cluster * SIZE + 40
        assert entry.target == table.entries[5] & OFFSET_MASK


def test_notes_follow_the_cursor(tmp_path: Path) -> None:
    builder = small_builder()
    table = builder.model.l1[0].cluster
    with opened(builder.write(tmp_path / "a.qcow2"), HOST_MAP) as session:
        (reading,) = readings_of(session, looked_up(session, select_host(table)))
        data = session.file.read(table * SIZE, SIZE)
        for at in (0, 8, 5000, 40_000, SIZE - 1):
            notes, good = notes_near(reading, data, table * SIZE + at)
            assert table * SIZE + at in good
            assert any(one.start <= table * SIZE + at < one.start + one.length for one in notes)
            assert len(notes) <= 2 * 1024 // 8
        assert notes_near(reading, data, table * SIZE - 1) == ([], range(0))
        assert notes_near(reading, None, table * SIZE) == ([], range(0))


def test_a_guest_place_without_a_cluster(tmp_path: Path) -> None:
    path = small_builder().write(tmp_path / "a.qcow2")
    view = viewed(path, select_guest(100 * SIZE))
    assert view.note == "Not in this file: not allocated: reads as zeros."
    builder = small_builder()
    builder.backing("base.qcow2")
    view = viewed(builder.write(tmp_path / "b.qcow2"), select_guest(100 * SIZE))
    assert view.note.startswith("Not in this file: not in this layer")


def test_before_it_is_looked_up(tmp_path: Path) -> None:
    with opened(small_builder().write(tmp_path / "a.qcow2"), HOST_MAP) as session:
        assert "Nothing is selected" in cluster_view(session, Selection()).note
        early = cluster_view(session, session.glance(select_host(0)))
        assert early.note.startswith("The header: where everything begins.")
        assert "looking up" in early.note
        assert readings_of(session, session.glance(select_host(0))) == ()
        failed = Selection(host_cluster=3, error="It cannot be read.", complete=True)
        assert cluster_view(session, failed).tone is Tone.BAD


def test_a_raw_image(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(3 * SIZE))
    view = viewed(path, select_host(1))
    assert view.title == "Cluster 1 of 3 · host 0x10000 · guest 0x10000 (64 KiB)"
    assert view.owners == ()


def test_names_of_states_are_harmless(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 20)
    host = builder.data(0, b"x")
    for _ in range(6):
        builder.snapshot(b"\x1b[31m[@click=app.quit]\xe2\x80\xae")
    view = viewed(builder.write(tmp_path / "a.qcow2"), select_host(host))
    assert all(one.text.isprintable() for one in view.owners)
    assert "3 more states" in view.owners[0].text
