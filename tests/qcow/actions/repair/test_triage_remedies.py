"""Lost tables, damaged L1 entries, overlaps and leaks: repaired, compared by QEMU, taken back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import qcow
from qcow.actions.compact import Compact
from qcow.actions.history import Undo
from qcow.actions.repair import Remedy, RepairImage, diagnose
from qcow.edit.apply import apply
from qcow.edit.plan import Plan
from qcow.errors import EditRefused
from qcow.image.image import Image
from tests.support.edited import assert_sound, contents, copied
from tests.support.poking import (
    COPIED,
    OFFSETS,
    count_place,
    l1_entry,
    l2_entry,
    leak,
    leaks_and_errors,
    make,
    peek,
    poke,
    set_word,
    word,
)
from tests.support.qemu import guest_bytes, qemu_img, qemu_io

pytestmark = pytest.mark.oracle
K, M = 1 << 10, 1 << 20
#: Options, guest bytes behind one L2 table, bytes of an L2 entry.
VARIANTS = {
    "4k": ("cluster_size=4k", 2 * M, 8),
    "v2": ("cluster_size=4k,compat=0.10", 2 * M, 8),
    "extended": ("cluster_size=16k,extended_l2=on", 16 * M, 16),
    "zstd": ("cluster_size=4k,compression_type=zstd", 2 * M, 8),
    "wide": ("cluster_size=4k,refcount_bits=64", 2 * M, 8),
    "narrow": ("cluster_size=4k,refcount_bits=1", 2 * M, 8),
}


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def remedies(path: Path) -> dict[str, Remedy]:
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        return {remedy.id: remedy for remedy in diagnose(image)[1]}


def repair(path: Path, choices: Mapping[str, str] | None = None) -> Plan:
    return apply(os.fspath(path), [RepairImage(choices or {})]).plans[0]


def undone(path: Path, sector: bytes) -> None:
    apply(os.fspath(path), [Undo()])
    assert peek(path, 0, 512) == sector


def same(path: Path, golden: Path) -> bool:
    """By qemu-img compare, which reads only what is there."""
    return qemu_img("compare", path, golden, check=False).returncode == 0


# ---- the stories


def test_benign_leaks_are_freed_and_the_file_shrinks(tmp_path: Path) -> None:
    path = make(tmp_path / "s1.qcow2", "64M", "write -P 1 0 2M")
    golden = copied(path, "golden.qcow2")
    leak(path, *[b"\xee" * 65536] * 5)
    damaged = path.stat().st_size
    assert leaks_and_errors(path) == (5, 0)
    sector = peek(path, 0, 512)
    assert remedies(path)["leaks"].default == "free"
    repair(path)
    assert_sound(path)
    assert same(path, golden)
    undone(path, sector)
    assert leaks_and_errors(path) == (5, 0)
    apply(os.fspath(path), [RepairImage(), Compact()])
    assert_sound(path)
    assert same(path, golden)
    assert path.stat().st_size == golden.stat().st_size == damaged - 5 * 65536


def test_leaks_that_are_guest_data_are_put_back(tmp_path: Path) -> None:
    path = make(tmp_path / "s3.qcow2", "2G", "write -P 1 600M 40M", "write -P 2 0 5M")
    golden = copied(path, "golden.qcow2")
    set_word(path, l1_entry(path, 1), 0)
    assert leaks_and_errors(path) == (641, 0)
    sector = peek(path, 0, 512)
    found = remedies(path)
    assert list(found) == ["lost-l2-40000"]  # nothing is offered for reclaim
    assert found["lost-l2-40000"].default == "active-1"
    repair(path)
    assert_sound(path)
    assert word(path, l1_entry(path, 1)) == COPIED | 0x40000
    assert same(path, golden)
    checked = qemu_img("check", "--output=json", path).stdout
    assert b'"allocated-clusters": 720' in checked
    undone(path, sector)
    assert leaks_and_errors(path) == (641, 0)


def test_a_lost_table_goes_where_the_user_says(tmp_path: Path) -> None:
    path = make(
        tmp_path / "a", "8M", "write -P 1 0 1M", "write -P 2 2M 64k", options="cluster_size=4k"
    )
    before = guest_bytes(path)
    set_word(path, l1_entry(path, 1), 0)
    (id_,) = remedies(path)
    repair(path, {id_: "active-2"})
    assert_sound(path)
    after = guest_bytes(path)
    assert after[4 * M : 4 * M + 64 * K] == before[2 * M : 2 * M + 64 * K]
    assert after[: 2 * M] == before[: 2 * M]


def _overlap(path: Path) -> tuple[Path, int]:
    """Story S5: guest data over the L1 table, and QEMU has noticed it."""
    make(path, "64M", "write -P 1 0 128k", "write -P 7 128k 64k", "write -P 3 192k 1M")
    golden = copied(path, "golden.qcow2")
    place = l2_entry(path, 0, 2)
    original = (word(path, place) & OFFSETS) // 65536
    set_word(path, place, COPIED | word(path, 40))
    qemu_io_anyway(path, "write 128k 64k")
    return golden, original


def qemu_io_anyway(path: Path, command: str) -> None:
    """For writes that QEMU refuses, marking the image corrupt."""

    subprocess.run(["qemu-io", "-c", command, path], capture_output=True)


def test_data_over_the_l1_table_finds_its_original(tmp_path: Path) -> None:
    path = tmp_path / "s5.qcow2"
    golden, original = _overlap(path)
    assert leaks_and_errors(path)[0] == 1
    sector = peek(path, 0, 512)
    remedy = remedies(path)["overlap-40000-2"]
    assert "the active L1 table and the guest data from 0x20000 to 0x30000" in remedy.finding.what
    assert remedy.default == f"cluster-{original}"
    plan = repair(path)
    assert [(r.start, r.length) for r in plan.outcome.changed] == [(128 * K, 64 * K)]
    assert_sound(path)
    assert same(path, golden)
    assert not qemu_img("info", path).stdout.count(b"corrupt: true")
    undone(path, sector)


def test_data_over_the_l1_table_can_be_zeroed(tmp_path: Path) -> None:
    path = tmp_path / "s5.qcow2"
    golden, _ = _overlap(path)
    repair(path, {"overlap-40000-2": "zero"})
    assert leaks_and_errors(path) == (1, 0)  # what may be the original is kept
    before, after = guest_bytes(golden), guest_bytes(path)
    assert not any(after[128 * K : 192 * K])
    assert after[: 128 * K] == before[: 128 * K]
    assert after[192 * K :] == before[192 * K :]


# ---- L1 entries of every state and variant


def _made(path: Path, variant: str, *, snapshot: bool) -> None:
    options, span, _ = VARIANTS[variant]
    size = {"extended": 16 * K}.get(variant, 4 * K)
    make(
        path,
        4 * span,
        f"write -P 1 0 {20 * size}",
        f"write -P 2 {span + 30 * size} {40 * size}",
        f"write -P 3 {2 * span - 4 * size} {8 * size}",
        f"write -P 4 {3 * span} {6 * size}",
        options=options,
    )
    qemu_io(path, *(f"write -c -P {9 - n} {span + (80 + n) * size} {size}" for n in range(3)))
    if snapshot:
        qemu_img("snapshot", "-c", "one", path)
        qemu_io(path, f"write -P 5 {span + 32 * size} {4 * size}", f"write -P 6 0 {2 * size}")
    assert_sound(path)


DAMAGES: dict[str, Callable[[int], int]] = {
    "zeroed": lambda entry: 0,
    "misaligned": lambda entry: entry + 0x800,
    "one-bit": lambda entry: entry ^ 1 << 40,
    "outside": lambda entry: COPIED | 0x7ABCD0000000,
    "reserved": lambda entry: entry | 0x0100000000000011,
    "flags-only": lambda entry: COPIED,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_l1_entry_of_the_active_state(tmp_path: Path, variant: str, damage: str) -> None:
    path = tmp_path / "a.qcow2"
    _made(path, variant, snapshot=False)
    _damage_and_repair(path, l1_entry(path, 1), damage)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("state", [None, 0])
@pytest.mark.parametrize("variant", ["4k", "extended"])
def test_an_l1_entry_with_a_snapshot(
    tmp_path: Path, variant: str, state: int | None, damage: str
) -> None:
    path = tmp_path / "a.qcow2"
    _made(path, variant, snapshot=True)
    _damage_and_repair(path, l1_entry(path, 1, snapshot=state), damage)


def _damage_and_repair(path: Path, place: int, damage: str) -> None:
    before = contents(path)
    set_word(path, place, DAMAGES[damage](word(path, place)))
    assert leaks_and_errors(path) != (0, 0)
    sector = peek(path, 0, 512)
    repair(path)
    assert_sound(path)
    assert contents(path) == before
    undone(path, sector)


@pytest.mark.parametrize("state", [None, 0])
def test_a_whole_l1_table_of_one_state(tmp_path: Path, state: int | None) -> None:
    """What the other state has in the same places tells where each table belongs."""
    path = tmp_path / "a.qcow2"
    _made(path, "4k", snapshot=True)
    before = contents(path)
    poke(path, l1_entry(path, 0, snapshot=state), bytes(32))
    repair(path)
    assert_sound(path)
    assert contents(path) == before


def test_an_entry_whose_table_is_nowhere_is_dropped_by_choice(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    _made(path, "4k", snapshot=False)
    before = guest_bytes(path)
    table = word(path, l1_entry(path, 3)) & OFFSETS
    poke(path, table, os.urandom(4 * K))
    set_word(path, l1_entry(path, 3), COPIED | 0x7ABCD0000000)
    remedy = remedies(path)["l1-active-3"]
    assert remedy.default is None
    assert [option.key for option in remedy.options] == ["drop"]
    plan = repair(path, {"l1-active-3": "drop"})
    assert [(r.start, r.length) for r in plan.outcome.changed] == [(6 * M, 2 * M)]
    leaks, errors = leaks_and_errors(path)
    assert errors == 0
    assert leaks == 7  # what was there may be guest data
    after = guest_bytes(path)
    assert after[: 6 * M] == before[: 6 * M]
    assert not any(after[6 * M :])


@pytest.mark.parametrize(("key", "content"), [("drop", 7), ("zero", 0)])
def test_dropped_over_a_backing_file(tmp_path: Path, key: str, content: int) -> None:
    base = make(tmp_path / "base.qcow2", "8M", "write -P 7 0 8M")
    path = tmp_path / "a.qcow2"
    qemu_img(
        "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "-b", base, "-F", "qcow2", path
    )
    qemu_io(path, "write -P 1 2M 64k")
    poke(path, word(path, l1_entry(path, 1)) & OFFSETS, os.urandom(4 * K))
    set_word(path, l1_entry(path, 1), COPIED | 0x7ABCD0000000)
    repair(path, {"l1-active-1": key})
    assert leaks_and_errors(path)[1] == 0
    after = guest_bytes(path)
    assert after == bytes([7]) * 2 * M + bytes([content]) * 2 * M + bytes([7]) * 4 * M


def test_two_choices_for_one_place_are_refused(tmp_path: Path) -> None:
    path = make(
        tmp_path / "a", "8M", "write 0 4k", "write 2M 4k", "write 4M 4k", options="cluster_size=4k"
    )
    poke(path, l1_entry(path, 1), bytes(16))
    ids = list(remedies(path))[:2]
    before = path.read_bytes()
    with pytest.raises(EditRefused, match="Two choices want entry 3"):
        repair(path, dict.fromkeys(ids, "active-3"))
    assert path.read_bytes()[: len(before)] == before


# ---- overlaps


@pytest.mark.parametrize("variant", ["4k", "v2", "extended"])
@pytest.mark.parametrize("field", ["refcount table", "refcount block", "L2 table", "snapshot L1"])
def test_data_over_other_tables(tmp_path: Path, variant: str, field: str) -> None:
    path = tmp_path / "a.qcow2"
    _, _, width = VARIANTS[variant]
    _made(path, variant, snapshot=field == "snapshot L1")
    before = contents(path)
    target = {
        "refcount table": word(path, 48),
        "refcount block": word(path, word(path, 48)),
        "L2 table": word(path, l1_entry(path, 3)) & OFFSETS,
        "snapshot L1": word(path, word(path, 64)) if field == "snapshot L1" else 0,
    }[field]
    set_word(path, l2_entry(path, 1, 40, width), COPIED | target)
    sector = peek(path, 0, 512)
    (remedy,) = (r for id_, r in remedies(path).items() if id_.startswith("overlap"))
    assert field.replace("snapshot L1", "the L1 table of snapshot:1") in remedy.finding.what
    if field == "snapshot L1":  # the original is the snapshot's as well: no leak
        repair(path, {remedy.id: "zero"})
        assert leaks_and_errors(path)[1] == 0
        assert contents(path)["1"] == before["1"]
    else:
        assert remedy.default is not None
        repair(path)
        assert_sound(path)
        assert contents(path) == before
    undone(path, sector)


def test_two_guest_clusters_in_one_place(tmp_path: Path) -> None:
    """The displaced one has its original between the clusters of its neighbours."""
    path = tmp_path / "a.qcow2"
    _made(path, "4k", snapshot=False)
    before = contents(path)
    set_word(path, l2_entry(path, 1, 40), word(path, l2_entry(path, 0, 5)))
    repair(path)
    assert_sound(path)
    assert contents(path) == before


def test_two_guest_clusters_are_told_apart_by_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    _made(path, "4k", snapshot=False)
    place = l2_entry(path, 1, 40)
    original = (word(path, place) & OFFSETS) // (4 * K)
    poke(path, count_place(path, original), b"\0\0")
    set_word(path, place, word(path, l2_entry(path, 0, 5)))
    shown = contents(path)
    (remedy,) = (r for id_, r in remedies(path).items() if id_.startswith("overlap"))
    assert remedy.default == "apart"
    repair(path)
    assert_sound(path)
    assert contents(path) == shown
    qemu_io(path, f"write -P 77 {2 * M + 40 * 4 * K} 4k")
    assert guest_bytes(path)[5 * 4 * K : 6 * 4 * K] == shown[""][5 * 4 * K : 6 * 4 * K]
    assert_sound(path)


# ---- leaks


def test_what_may_be_guest_data_is_kept_until_it_is_chosen(tmp_path: Path) -> None:
    path = make(tmp_path / "a", "64M", "write -P 1 0 2M")
    before = contents(path)
    leak(path, b"\xee" * 65536, os.urandom(65536), b"")
    repair(path)
    assert leaks_and_errors(path) == (1, 0)
    found = remedies(path)
    assert found["leaks"].default is None
    with pytest.raises(EditRefused, match="needs a choice"):
        repair(path)
    sector = peek(path, 0, 512)
    plan = repair(path, {"leaks": "free-all"})
    assert "may be guest data" in plan.outcome.loses
    assert_sound(path)
    assert contents(path) == before
    undone(path, sector)
    assert leaks_and_errors(path) == (1, 0)


def test_no_leak_is_freed_with_unknown_header_extensions(tmp_path: Path) -> None:
    path = make(tmp_path / "a", "64M", "write -P 1 0 2M")
    leak(path, b"\xee" * 65536)
    end = int.from_bytes(peek(path, 100, 4), "big")
    rest = peek(path, end, 1024)
    poke(path, end, b"\x12\x34\x56\x78\0\0\0\x08notknown" + rest)
    assert leaks_and_errors(path) == (1, 0)
    remedy = remedies(path)["leaks"]
    assert remedy.options == ()
    assert "extensions of unknown meaning" in remedy.finding.what
    with pytest.raises(EditRefused, match="needs a choice"):
        repair(path)
    assert leaks_and_errors(path) == (1, 0)
