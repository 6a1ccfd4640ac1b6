"""The snapshot tree: exact sizes, marks, orders, and names of any kind."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from qcowtui.samples.builder import ImageBuilder
from qcowtui.samples.damage import point_past_end
from qcowtui.views.snapshot_view import SnapshotView, Sort, date_words
from qcowtui.views.tones import Tone
from qcowtui.views.units import size
from qcowtui.views.work import HOST_MAP, SHARING

from ..support.images import patch, pattern
from ..support.qemu import qemu_img, qemu_io
from .opened import fill, opened

SIZE = 65536
HOSTILE = b"\x1b]0;owned\x07[@click=app.quit]x[/]\xe2\x80\xae"


def history() -> ImageBuilder:
    """clean -> (update -> now, test): ``test`` branches off ``clean``."""
    builder = ImageBuilder(virtual_size=64 << 20)
    for number in range(20):
        builder.data(number, pattern(number, SIZE))
    clean = builder.snapshot("clean", date=1_000_000)
    for number in range(5):
        builder.data(number, pattern(100 + number, SIZE))
    update = builder.snapshot("update", date=2_000_000)
    builder.revert(clean)
    builder.data(15, pattern(215, SIZE))
    builder.snapshot(
        "test", date=3_000_000, vm_clock_nsec=90_000_000_000, vm_state=[pattern(9, SIZE)] * 3
    )
    builder.revert(update)
    builder.data(30, pattern(330, SIZE))
    return builder


def drawn(view: SnapshotView) -> list[str]:
    rows = [view.row(position) for position in range(len(view))]
    return [row.guides + row.name for row in rows]


def test_the_tree_and_where_you_are(tmp_path: Path) -> None:
    path = history().write(tmp_path / "a.qcow2")
    with opened(path, HOST_MAP, SHARING) as session:
        view = SnapshotView(session)
        assert drawn(view) == ["clean", "├─update", "│ you are here", "└─test"]
        assert view.inferred
        assert [view.row(n).is_active for n in range(4)] == [False, False, True, False]
        assert view.position(0) == 2
        assert (view.label(0), view.label(2)) == ("active", "snapshot:2")


def test_sizes_are_exact(tmp_path: Path) -> None:
    builder = history()
    model = builder.model
    path = builder.write(tmp_path / "a.qcow2")
    with opened(path, HOST_MAP, SHARING) as session:
        view = SnapshotView(session)
        for index, snapshot in enumerate(model.snapshots, 1):
            assert view.frees(index) == model.exclusive_clusters(snapshot) * SIZE
        assert view.frees(0) == model.exclusive_clusters() * SIZE
        # clean and test share 15 clusters of their own less than the rest does.
        everything = model.references()
        pair = model.state_references(model.snapshots[0])
        pair += model.state_references(model.snapshots[2])
        together = sum(everything[cluster] == count for cluster, count in pair.items()) * SIZE
        assert view.frees_together({1, 3}) == together
        assert together > (view.frees(1) or 0) + (view.frees(3) or 0)
        assert view.marked_words({1, 3}) == f"2 marked: free {size(together)} together"
        assert view.marked_words({3}) == f"1 marked: frees {size(view.frees(3) or 0)}"


@pytest.mark.oracle
def test_frees_what_qemu_frees(tmp_path: Path) -> None:
    """Deleting with qemu-img takes exactly the promised number of clusters out of use."""
    path = tmp_path / "a.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "64M")
    qemu_io(path, "write -P 1 0 3M")
    qemu_img("snapshot", "-c", "one", path)
    qemu_io(path, "write -P 2 1M 1M")
    qemu_img("snapshot", "-c", "two", path)
    qemu_io(path, "write -P 3 0 512k")
    with opened(path, HOST_MAP, SHARING) as session:
        promised = SnapshotView(session).frees(1)
        assert session.owners is not None
        before = session.owners.counts
    qemu_img("snapshot", "-d", "one", path)
    with opened(path, HOST_MAP) as session:
        assert session.owners is not None
        used = [
            sum(
                n
                for kind, n in counts.items()
                if kind.label not in ("free", "beyond the image end")
            )
            for counts in (before, session.owners.counts)
        ]
    assert promised == (used[0] - used[1]) * SIZE


def test_differs_from_its_parent(tmp_path: Path) -> None:
    builder = history()
    path = builder.write(tmp_path / "a.qcow2")
    with opened(path, HOST_MAP, SHARING) as session:
        view = SnapshotView(session)
        assert view.parent(1) is None
        assert view.differs(1) is None
        model = builder.model
        one, two = (set(model.state_references(s)) for s in model.snapshots[:2])
        assert view.parent(2) == 1
        assert view.differs(2) == len(one ^ two) * SIZE


def test_before_anything_is_compared(tmp_path: Path) -> None:
    with opened(history().write(tmp_path / "a.qcow2")) as session:
        view = SnapshotView(session)
        assert drawn(view) == ["clean", "update", "test", "you are here"]
        assert view.frees(1) is None
        assert view.frees_together({1, 2}) is None
        assert view.marked_words({1, 2}) == "2 marked: not read yet together"
        fill(session, HOST_MAP, SHARING)
        assert SnapshotView(session).frees(1) is not None


def test_orders(tmp_path: Path) -> None:
    path = history().write(tmp_path / "a.qcow2")
    with opened(path, HOST_MAP, SHARING) as session:
        assert drawn(SnapshotView(session, Sort.DATE))[:3] == ["test", "update", "clean"]
        assert drawn(SnapshotView(session, Sort.NAME))[:3] == ["clean", "test", "update"]
        view = SnapshotView(session, Sort.FREES)
        sizes = [view.frees(view.row(n).index) for n in range(3)]
        assert sizes == sorted(sizes, key=lambda one: -(one or 0))
        assert drawn(view)[3] == "you are here"


def test_filter_finds_names_and_ids(tmp_path: Path) -> None:
    path = history().write(tmp_path / "a.qcow2")
    with opened(path, HOST_MAP, SHARING) as session:
        assert [one.strip("├─└│ ") for one in drawn(SnapshotView(session, filter="UPD"))] == [
            "update"
        ]
        assert len(SnapshotView(session, filter="3")) == 1
        assert len(SnapshotView(session, filter="nothing like it")) == 0


def test_twins_are_told_apart_by_id(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 20)
    for day in range(3):
        builder.data(day, pattern(day, SIZE))
        builder.snapshot("daily" if day < 2 else "other", date=day)
    with opened(builder.write(tmp_path / "a.qcow2"), HOST_MAP, SHARING) as session:
        view = SnapshotView(session)
        assert [view.row(n).name for n in range(3)] == ["daily #1", "daily #2", "other"]
        assert "use the ID" in dict(view.details(1))["name"]
        assert "use the ID" not in dict(view.details(3))["name"]


def test_details_say_it_in_words(tmp_path: Path) -> None:
    path = history().write(tmp_path / "a.qcow2")
    with opened(path, HOST_MAP, SHARING) as session:
        view = SnapshotView(session)
        found = dict(view.details(3))
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(3_000_000))
        assert found["taken"] == f"{when}, the machine had run for 1 min 30 s"
        assert found["VM state"].startswith("192 KiB")
        assert found["parent"].startswith("clean; ")
        assert "holds alone" in dict(view.details(0))
        assert date_words(view.snapshots[0]) == time.strftime(
            "%Y-%m-%d %H:%M", time.localtime(1_000_000)
        )


def test_hostile_and_empty_names(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 20)
    builder.data(0, b"x")
    builder.snapshot(HOSTILE)
    builder.snapshot(b"")
    builder.snapshot(b"\xff\xfe")
    with opened(builder.write(tmp_path / "a.qcow2"), HOST_MAP, SHARING) as session:
        view = SnapshotView(session)
        names = [view.row(n).name for n in range(len(view))]
        assert "(no name)" in names
        assert "\\xff\\xfe" in names
        assert any("[@click=app.quit]" in name and "\\x1b" in name for name in names)
        for n in range(len(view)):
            for text in (view.row(n).name, *sum(view.details(view.row(n).index), ())):
                assert text.isprintable()


def test_a_snapshot_whose_table_is_damaged_stays_and_says_so(tmp_path: Path) -> None:
    builder = history()
    path = builder.write(tmp_path / "a.qcow2")
    at = builder.model.snapshot_table.start * SIZE
    patch(path, at, (123).to_bytes(8, "big"))  # the first snapshot's L1 table offset
    with opened(path, HOST_MAP, SHARING) as session:
        view = SnapshotView(session)
        row = next(view.row(n) for n in range(len(view)) if view.row(n).name == "clean")
        assert row.tone is Tone.BAD
        assert "L1 table" in dict(view.details(row.index))["damaged"]


def test_damage_elsewhere_is_none_of_its_business(tmp_path: Path) -> None:
    image = history().build()
    point_past_end(image, 3)
    with opened(image.save(tmp_path / "a.qcow2"), HOST_MAP, SHARING) as session:
        view = SnapshotView(session)
        assert all(view.row(n).tone is not Tone.BAD for n in range(len(view)))


def test_hundreds_of_snapshots(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=16 << 20, cluster_bits=12)
    for number in range(400):
        builder.data(number, pattern(number, 64))
        builder.snapshot(f"s{number:03}", date=number)
    path = builder.write(tmp_path / "a.qcow2")
    with opened(path, HOST_MAP, SHARING) as session:
        begun = time.process_time()
        view = SnapshotView(session)
        shown = [view.row(n) for n in range(50)]
        assert [row.name for row in shown[:2]] == ["s000", "s001"]
        assert {row.guides for row in shown} == {""}
        assert all(view.frees(row.index) is not None for row in shown)
        assert time.process_time() - begun < 1.0
        assert len(view) == 401


def test_a_raw_image_has_none(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(4096))
    with opened(path) as session:
        assert len(SnapshotView(session)) == 0
