"""Two L1 entries of one state that name one L2 table: split by copying, or the lost one back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.repair.poking import Poked
from tests.support.edited import contents, copied
from tests.support.poking import make
from tests.support.qemu import qemu_img, qemu_io

from .healing import assert_healed, offered, repair

pytestmark = pytest.mark.oracle

SPAN = 2 << 20  # of one L2 table, with clusters of 4 KiB


def build(folder: Path, *, options: str = "cluster_size=4k", snapshot: bool = False) -> Path:
    """Three tables full of other data each."""
    image = make(
        folder / "image.qcow2",
        "16M",
        *(f"write -P {n + 1} {2 * n}M 2M" for n in range(3)),
        options=options,
    )
    if snapshot:
        qemu_img("snapshot", "-c", "s0", image)
        qemu_io(image, "write -P 9 3M 64k")
    return image


def name_twice(path: Path, first: int, second: int) -> tuple[int, int]:
    """Let the second L1 entry name the table of the first; (that table, the one it had)."""
    poked = Poked(path.read_bytes())
    places = poked.l1_places()
    kept, lost = poked.get(places[first]), poked.get(places[second])
    poked.set(places[second], kept)
    path.write_bytes(poked.file)
    return kept & ~(1 << 63), lost & ~(1 << 63)


@pytest.mark.parametrize("snapshot", [False, True])
@pytest.mark.parametrize("options", ["cluster_size=4k", "cluster_size=4k,compat=0.10"])
def test_the_ranges_get_tables_of_their_own(tmp_path: Path, options: str, snapshot: bool) -> None:
    image = build(tmp_path, options=options, snapshot=snapshot)
    kept, _ = name_twice(image, 0, 1)
    wanted = contents(image)
    assert wanted[""][:SPAN] == wanted[""][SPAN : 2 * SPAN]
    assert offered(image)[f"l2-shared-active-{kept:x}"] == "apart"
    assert_healed(image, wanted, check=(0, 3))
    repair(image)
    assert not any(id_.startswith("l2-shared") for id_ in offered(image))
    qemu_io(image, "write -P 88 1M 4k")
    now = contents(image)[""]
    assert now[SPAN:] == wanted[""][SPAN:], "a write to one range appears in the other"
    assert now[1 << 20 : (1 << 20) + 4096] == b"\x58" * 4096
    assert qemu_img("check", image, check=False).returncode in (0, 3)


def test_it_is_seen_where_the_counts_are_right(tmp_path: Path) -> None:
    """As qemu-img check -r leaves it: no error to it, and the ranges still share each write."""
    image = build(tmp_path)
    kept, _ = name_twice(image, 0, 1)
    qemu_img("check", "-q", "-r", "all", image, check=False)
    assert qemu_img("check", image, check=False).returncode == 0
    wanted = contents(image)
    assert offered(image) == {f"l2-shared-active-{kept:x}": "apart"}
    assert_healed(image, wanted)


def test_the_lost_table_is_put_back(tmp_path: Path) -> None:
    image = build(tmp_path)
    wanted = contents(image)
    kept, lost = name_twice(image, 0, 1)
    id_ = f"l2-shared-active-{kept:x}"
    done = assert_healed(image, wanted, {id_: f"table-1-{lost:x}"})
    assert not done.outcome.loses


def test_a_range_is_emptied_by_choice(tmp_path: Path) -> None:
    image = build(tmp_path)
    kept, _ = name_twice(image, 0, 1)
    wanted = contents(image)[""]
    expected = wanted[:SPAN] + bytes(SPAN) + wanted[2 * SPAN :]
    id_ = f"l2-shared-active-{kept:x}"
    done = assert_healed(image, {"": expected}, {id_: "drop-1"}, check=(0, 3))
    assert done.outcome.loses


def test_a_snapshot_that_names_a_table_twice(tmp_path: Path) -> None:
    image = build(tmp_path)
    qemu_img("snapshot", "-c", "s0", image)
    qemu_io(image, *(f"write -P {n + 70} {2 * n}M 2M" for n in range(3)))
    healthy = copied(image, "healthy.qcow2")
    poked = Poked(image.read_bytes())
    l1 = poked.get(poked.snapshot())
    poked.set(l1 + 8, poked.get(l1))
    image.write_bytes(poked.file)
    wanted = contents(image)
    assert wanted[""] == contents(healthy)[""]
    (id_,) = [id_ for id_ in offered(image) if id_.startswith("l2-shared-snapshot-0-")]
    assert_healed(image, wanted, {id_: "apart"}, check=(0, 3))
