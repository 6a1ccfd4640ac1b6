"""Each damage against qemu-img: it counts exactly what the damage says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qcowtui.samples import damage
from qcowtui.samples.built import BuiltImage
from qcowtui.samples.damage import Damage
from tests.support.images import qemu_check, small_builder

KINDS: dict[str, Callable[[BuiltImage], Damage]] = {
    "leaks behind the end": lambda image: damage.leak_clusters(image, 7),
    "refcount 1 to 0": lambda image: damage.lower_refcounts(image, (2, 3)),
    "refcount 2 to 1": lambda image: damage.lower_refcounts(image, (0, 1, 4)),
    "COPIED lost": lambda image: damage.flip_copied(image, (2, 3)),
    "COPIED wrongly set": lambda image: damage.flip_copied(image, (5,)),
    "data over the L1 table": lambda image: damage.overlap_l1_table(image, 2),
    "data over the L1 table, shared before": lambda image: damage.overlap_l1_table(image, 6),
    "cross link": lambda image: damage.cross_link(image, 2, 3),
    "past the end": lambda image: damage.point_past_end(image, 3),
    "lost L1 entry": lambda image: damage.lose_l1_entry(image, 0),
    "lost L1 entry, shared": lambda image: damage.lose_l1_entry(image, 1),
    "several": lambda image: (
        damage.leak_clusters(image, 3)
        + damage.lower_refcounts(image, (2,))
        + damage.cross_link(image, 20, 3)
    ),
}


@pytest.mark.oracle
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options", [{}, {"refcount_order": 3, "cluster_bits": 12}], ids=["64k", "4k"]
)
def test_counts(tmp_path: Path, kind: str, options: dict[str, int]) -> None:
    image = small_builder(**options).build()
    expected = KINDS[kind](image)
    image.save(tmp_path / "a.qcow2")
    check = qemu_check(tmp_path / "a.qcow2")
    assert expected != Damage()
    assert Damage(check.corruptions, check.leaks) == expected
    assert check.code == (2 if expected.corruptions else 3)


@pytest.mark.oracle
def test_sub_byte_refcounts_are_changed_alone(tmp_path: Path) -> None:
    image = small_builder(refcount_order=2).build()
    expected = damage.lower_refcounts(image, (0, 1)) + damage.leak_clusters(image, 2)
    image.save(tmp_path / "a.qcow2")
    check = qemu_check(tmp_path / "a.qcow2")
    assert Damage(check.corruptions, check.leaks) == expected


@pytest.mark.oracle
def test_flags_alone_are_no_damage_to_a_check(tmp_path: Path) -> None:
    for name, mark in (("dirty", damage.mark_dirty), ("corrupt", damage.mark_corrupt)):
        image = small_builder().build()
        assert mark(image) == Damage()
        image.save(tmp_path / name)
        assert qemu_check(tmp_path / name).code == 0
    assert (tmp_path / "dirty").read_bytes()[79] == 1
    assert (tmp_path / "corrupt").read_bytes()[79] == 2


def test_damage_needs_something_to_damage() -> None:
    image = small_builder().build()
    with pytest.raises(ValueError, match="stored plainly"):
        damage.lower_refcounts(image, (8,))
    with pytest.raises(ValueError, match="in use"):
        damage.leak_clusters(image, 1, at=0)
    with pytest.raises(ValueError, match="no refcount block"):
        damage.leak_clusters(image, 1, at=1 << 20)


def test_saving_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        small_builder().write(tmp_path / "mine")
    assert (tmp_path / "mine").read_bytes() == b"precious"
