"""An L1 table that lost its pointer, and lies among the leaks, goes back into its state."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qcow.actions.history import Undo
from qcow.edit.apply import apply
from tests.repair.poking import Poked
from tests.support.edited import contents, copied
from tests.support.poking import make
from tests.support.qemu import qemu_img, qemu_io

from .healing import assert_healed, digest, golden, offered, repair

pytestmark = pytest.mark.oracle


def empty_cluster(poked: Poked) -> int:
    """The offset of a new cluster of zeros behind the end, counted as used."""
    number = -(-len(poked.file) // poked.size)
    poked.file += bytes((number + 1) * poked.size - len(poked.file))
    poked.set_refcount(number, 1)
    return number * poked.size


def lose_active(path: Path) -> int:
    """Let the header name an empty table instead; where the right one lies."""
    poked = Poked(path.read_bytes())
    poked.set_header("l1_table_offset", empty_cluster(poked))
    path.write_bytes(poked.file)
    return poked.seen.l1_at


def lose_snapshot(path: Path, number: int) -> int:
    poked = Poked(path.read_bytes())
    at = poked.get(poked.snapshot(number))
    poked.set(poked.snapshot(number), empty_cluster(poked))
    path.write_bytes(poked.file)
    return at


@pytest.mark.parametrize(
    "options", ["cluster_size=4k", "cluster_size=64k", "compat=0.10", "extended_l2=on"]
)
@pytest.mark.parametrize("snapshots", [False, True])
def test_the_active_table(tmp_path: Path, options: str, snapshots: bool) -> None:
    image = golden(tmp_path / "image.qcow2", options, snapshots=snapshots)
    wanted = contents(image)
    at = lose_active(image)
    assert contents(image) != wanted
    found = offered(image)
    assert found[f"lost-l1-{at:x}"] == "active"
    assert "leaks" not in found
    done = assert_healed(image, wanted)
    assert not done.outcome.facts["left"]
    assert not done.outcome.loses


def test_qemu_would_throw_it_away(tmp_path: Path) -> None:
    image = golden(tmp_path / "image.qcow2", "cluster_size=4k", snapshots=False)
    wanted = contents(image)
    lose_active(image)
    theirs = copied(image, "theirs.qcow2")
    qemu_img("check", "-q", "-r", "all", theirs, check=False)
    assert contents(theirs) != wanted
    assert_healed(image, wanted)


@pytest.mark.parametrize("number", [0, 1])
def test_a_snapshots_table(tmp_path: Path, number: int) -> None:
    image = golden(tmp_path / "image.qcow2", "cluster_size=4k")
    wanted = contents(image)
    at = lose_snapshot(image, number)
    # An empty snapshot may be one of an empty disk: that is for a person to say.
    assert offered(image)[f"lost-l1-{at:x}"] is None
    done = assert_healed(image, wanted, {f"lost-l1-{at:x}": f"snapshot-{number}"}, check=(0, 3))
    assert not done.outcome.loses


def test_a_snapshot_that_was_deleted_halfway_stays_a_choice(tmp_path: Path) -> None:
    """Its table is no lost table of the active state, which has its own."""
    image = make(tmp_path / "image.qcow2", "16M", "write -P 1 0 4M", options="cluster_size=4k")
    qemu_img("snapshot", "-c", "old", image)
    qemu_io(image, "write -P 2 0 4M")
    wanted = contents(image)
    poked = Poked(image.read_bytes())
    poked.set_header("nb_snapshots", 0)
    poked.set_header("snapshots_offset", 0)
    image.write_bytes(poked.file)
    found = offered(image)
    assert not [id_ for id_ in found if id_.startswith("lost-l1")]
    assert found["leaks"] is None
    assert contents(image) == {"": wanted[""]}


def test_a_table_of_a_deleted_snapshot_does_not_fill_an_empty_disk(tmp_path: Path) -> None:
    image = make(tmp_path / "image.qcow2", "16M", options="cluster_size=4k")
    qemu_img("snapshot", "-c", "empty", image)
    qemu_io(image, "write -P 1 0 4M")
    qemu_img("snapshot", "-c", "full", image)
    qemu_img("snapshot", "-a", "empty", image)
    poked = Poked(image.read_bytes())
    poked.set_header("nb_snapshots", 1)
    image.write_bytes(poked.file)
    wanted = contents(image)
    found = offered(image)
    (lost,) = [id_ for id_ in found if id_.startswith("lost-l1")]
    assert found[lost] is None
    assert_healed(
        image, wanted | {"": b"\1" * (4 << 20) + bytes(12 << 20)}, {lost: "active"}, check=(0, 3)
    )


def test_entries_in_use_are_never_replaced(tmp_path: Path) -> None:
    """The state has written since it lost its table: a person decides, and keeps what is new."""
    image = golden(tmp_path / "image.qcow2", "cluster_size=4k", snapshots=False)
    before = contents(image)[""]
    at = lose_active(image)
    qemu_io(image, "write -P 77 0 64k")
    now = contents(image)[""]
    found = offered(image)
    assert found[f"lost-l1-{at:x}"] is None
    choices = {f"lost-l1-{at:x}": "active"}
    length, unrepaired = image.stat().st_size, digest(image)
    done = repair(image, choices)
    span = 4096 * 512
    assert contents(image)[""] == now[:span] + before[span:]
    assert not done.outcome.loses
    assert qemu_img("check", image, check=False).returncode in (0, 3)
    apply(os.fspath(image), [Undo()])
    assert digest(image, length) == unrepaired
