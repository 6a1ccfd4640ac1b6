"""Changing cluster 0: QEMU reads each form, and before sector 0 is written it reads the old one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qcow.errors import EditRefused, FormatError, UsageError
from qcow.image.image import Image
from qcow.layout.constants import EXT_BITMAPS, EXT_FEATURE_NAMES, SECTOR
from qcow.layout.extensions import BitmapsExtension
from qcow.layout.features import qemu_feature_names
from qcow.layout.header_cluster import HeaderCluster, used_ranges
from qcow.layout.header_switch import HeaderSwitch, plan_switch
from qcow.storage.local import open_local
from tests.support.images import patch, qemu_check
from tests.support.qemu import qemu_img, qemu_json

Change = Callable[[HeaderCluster], HeaderCluster]


def create(folder: Path, options: str = "", *more: str) -> Path:
    path = folder / "a.qcow2"
    opts = ("-o", options) if options else ()
    qemu_img("create", "-q", "-f", "qcow2", *opts, *more, path, "8M", cwd=folder)
    return path


def cluster_of(path: Path) -> bytes:
    with Image(open_local(path)) as image:
        size = image.usable_geometry().cluster_size
        return image.storage.read(0, size).ljust(size, b"\0")


def info(path: Path) -> dict[str, Any]:
    told = dict(qemu_json("info", "--output=json", path))
    told.pop("actual-size")
    told["format-specific"] = dict(dict(told["format-specific"])["data"])
    return told


def switch(path: Path, change: Change) -> HeaderSwitch:
    """Carry a change out as an edit would, watched by QEMU between the two steps."""
    old = cluster_of(path)
    parsed = HeaderCluster.parse(old)
    before = info(path)
    plan = plan_switch(old, change(parsed))
    for part in plan.pre_writes:
        assert part.offset >= SECTOR
        patch(path, part.offset, part.after)
    assert info(path) == before
    assert HeaderCluster.parse(cluster_of(path)) == parsed
    for part in plan.patches:
        assert part.offset % SECTOR == 0
        assert (len(part.before), len(part.after)) == (SECTOR, SECTOR)
        patch(path, part.offset, part.after)
    assert cluster_of(path) == plan.applied(old)
    assert HeaderCluster.parse(cluster_of(path)).says_the_same(plan.cluster)
    assert qemu_check(path).code == 0
    return plan


def back_to(path: Path, old: bytes, plan: HeaderSwitch) -> None:
    """Undo: only sector 0 is written back."""
    assert plan.one_sector
    patch(path, 0, old[:SECTOR])
    assert HeaderCluster.parse(cluster_of(path)) == HeaderCluster.parse(old)


@pytest.mark.oracle
@pytest.mark.parametrize("options", ["", "compat=0.10", "cluster_size=512", "cluster_size=4k"])
def test_backing_file_comes_changes_and_goes_in_one_sector(tmp_path: Path, options: str) -> None:
    qemu_img("create", "-q", "-f", "qcow2", tmp_path / "base.qcow2", "8M")
    qemu_img("create", "-q", "-f", "raw", tmp_path / "other.raw", "8M")
    path = create(tmp_path, options)
    steps: list[tuple[bytes | None, bytes | None]] = [
        (b"base.qcow2", b"qcow2"),
        (b"other.raw", b"raw"),
        (b"./base.qcow2", None),
        (b"././././base.qcow2", b"qcow2"),
        (None, None),
        (b"base.qcow2", b"qcow2"),
    ]
    for name, format_ in steps:
        old = cluster_of(path)
        plan = switch(path, lambda new, n=name, f=format_: new.with_backing(n, f))  # type: ignore[misc]
        assert plan.one_sector
        told = info(path)
        assert told.get("backing-filename") == (name.decode() if name else None)
        assert told.get("backing-filename-format") == (format_.decode() if format_ else None)
        back_to(path, old, plan)
        for part in plan.patches:
            patch(path, part.offset, part.after)
    qemu_img("rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "other.raw", path, cwd=tmp_path)
    assert info(path)["backing-filename"] == "other.raw"
    assert qemu_check(path).code == 0


@pytest.mark.oracle
def test_long_names_until_the_cluster_is_full(tmp_path: Path) -> None:
    """Each name leaves bytes behind that the old sector 0 needs; a journal tidies them up."""
    (tmp_path / "b.raw").write_bytes(bytes(8 << 20))
    path = create(tmp_path, "cluster_size=4k", "-b", "b.raw", "-F", "raw")
    forms = []
    for number in range(8):
        name = b"./" * (400 + number) + b"b.raw"
        plan = switch(path, lambda new, name=name: new.with_backing(name, b"raw"))  # type: ignore[misc]
        forms.append(plan.one_sector)
        assert info(path)["backing-filename"] == name.decode()
    assert forms[:3] == [True, True, True]
    assert False in forms
    again = forms.index(False) + 1
    assert forms[again] is True


def set_bitmaps(count: int, size: int, offset: int) -> Change:
    def change(new: HeaderCluster) -> HeaderCluster:
        return new.with_bitmaps(BitmapsExtension(count, 0, size, offset)).with_header(
            autoclear_features=1
        )

    return change


@pytest.mark.oracle
@pytest.mark.parametrize("backing", [(), ("-b", "base.qcow2", "-F", "qcow2")])
def test_bitmaps_of_qemu_move_in_one_sector(tmp_path: Path, backing: tuple[str, ...]) -> None:
    """QEMU puts the bitmaps extension across sector 0's end: it moves, the name table shrinks."""
    qemu_img("create", "-q", "-f", "qcow2", tmp_path / "base.qcow2", "8M")
    path = create(tmp_path, "", *backing)
    qemu_img("bitmap", "--add", path, "one")
    qemu_img("bitmap", "--add", path, "two")
    told = info(path)
    with Image(open_local(path)) as image:
        assert image.bitmap_directory is not None
        at, size = image.bitmap_directory
        end = image.storage.size() + 65535 & ~65535
        directory = image.storage.read(at, size)
    patch(path, end, directory)
    plan = plan_switch(
        cluster_of(path), set_bitmaps(2, size, end)(HeaderCluster.parse(cluster_of(path)))
    )
    assert plan.one_sector
    table = plan.cluster.extension(EXT_FEATURE_NAMES)
    full = qemu_feature_names(65536)
    assert table is not None
    assert full is not None
    assert len(table) in (len(full) - 48, len(full) - 96)
    assert b"bitmaps" in table  # its bit is set
    for part in (*plan.pre_writes, *plan.patches):
        patch(path, part.offset, part.after)
    assert info(path) == told
    again = plan_switch(cluster_of(path), set_bitmaps(2, size, at)(plan.cluster))
    assert again.one_sector
    assert again.pre_writes == ()


@pytest.mark.oracle
def test_first_bitmap_goes_into_sector_0(tmp_path: Path) -> None:
    path = create(tmp_path)
    old = cluster_of(path)
    plan = plan_switch(old, set_bitmaps(1, 32, 1 << 20)(HeaderCluster.parse(old)))
    assert plan.one_sector
    assert [magic for magic, _ in plan.cluster.extensions] == [EXT_BITMAPS, EXT_FEATURE_NAMES]
    assert plan.cluster.extension(EXT_FEATURE_NAMES) == qemu_feature_names(65536)


@pytest.mark.oracle
def test_version_and_features_change_in_one_sector(tmp_path: Path) -> None:
    qemu_img("create", "-q", "-f", "qcow2", tmp_path / "base.qcow2", "8M")
    path = create(tmp_path, "compat=0.10", "-b", "base.qcow2", "-F", "qcow2")
    up = switch(
        path,
        lambda new: new.with_header(
            version=3, header_length=112, compatible_features=1
        ).with_feature_names(qemu_feature_names(65536)),
    )
    assert up.one_sector
    told = info(path)
    assert told["format-specific"]["compat"] == "1.1"
    assert told["format-specific"]["lazy-refcounts"] is True
    assert told["backing-filename"] == "base.qcow2"
    down = switch(
        path,
        lambda new: new.with_header(
            version=2, header_length=72, compatible_features=0
        ).with_feature_names(None),
    )
    assert down.one_sector
    assert info(path)["format-specific"]["compat"] == "0.10"
    assert info(path)["backing-filename"] == "base.qcow2"


@pytest.mark.oracle
def test_unknown_extensions_and_loose_bytes_are_kept(tmp_path: Path) -> None:
    (tmp_path / "b.raw").write_bytes(bytes(8 << 20))
    path = create(tmp_path)
    old = cluster_of(path)
    strange = HeaderCluster.parse(old).with_extension(0x12345678, b"nobody knows" * 60)
    patch(path, 0, strange.encode())
    patch(path, 5000, b"left here by somebody")
    plan = switch(path, lambda new: new.with_backing(b"b.raw", b"raw"))
    assert not plan.one_sector  # the extension behind sector 0 had to move
    made = cluster_of(path)
    assert HeaderCluster.parse(made).extension(0x12345678) == b"nobody knows" * 60
    assert made[5000:5021] == b"left here by somebody"
    longer = b"./" * 500 + b"b.raw"
    plan = switch(path, lambda new: new.with_backing(longer, b"raw"))
    assert plan.one_sector
    assert cluster_of(path)[5000:5021] == b"left here by somebody"


@pytest.mark.oracle
def test_an_old_header_without_end_marker(tmp_path: Path) -> None:
    """Programs before header extensions put the name right behind the 72 bytes of the header."""
    (tmp_path / "base.raw").write_bytes(bytes(8 << 20))
    path = create(tmp_path, "compat=0.10")
    head = bytearray(cluster_of(path)[:72])
    head[8:20] = (72).to_bytes(8, "big") + (8).to_bytes(4, "big")
    patch(path, 0, bytes(head) + b"base.raw")
    assert info(path)["backing-filename"] == "base.raw"
    parsed = HeaderCluster.parse(cluster_of(path))
    assert (parsed.backing_name, parsed.extensions) == (b"base.raw", ())
    assert used_ranges(cluster_of(path)) == ((0, 72), (72, 80))
    plan = switch(path, lambda new: new.with_backing(b"./base.raw", b"raw"))
    assert plan.one_sector
    assert info(path)["backing-filename"] == "./base.raw"
    assert info(path)["backing-filename-format"] == "raw"


def blank(bits: int = 16) -> HeaderCluster:
    data = bytearray(1 << bits)
    data[:8] = b"QFI\xfb\0\0\0\3"
    data[20:24] = bits.to_bytes(4, "big")
    data[100:104] = (112).to_bytes(4, "big")
    return HeaderCluster.parse(bytes(data))


def test_random_changes_always_arrive() -> None:
    """Every pair of contents, whatever the old bytes: the result says what was asked for."""
    names = (None, b"n" * 5, b"m" * 450, b"l" * 1000)
    formats = (None, b"raw", b"exactly15bytes!")
    bitmaps = (None, BitmapsExtension(1, 0, 40, 1 << 20), BitmapsExtension(2, 0, 80, 1 << 21))
    tables = (None, qemu_feature_names(65536))
    contents = [
        blank(11).with_backing(n, f).with_bitmaps(b).with_feature_names(t)
        for n, f, b, t in itertools.product(names, formats, bitmaps, tables)
    ]
    one_sector = 0
    for start, wanted in itertools.product(contents[::5], contents):
        old = start.encode().ljust(2048, b"\0")
        plan = plan_switch(old, wanted)
        made = plan.applied(old)
        told = HeaderCluster.parse(made)
        assert told.says_the_same(plan.cluster)
        full = plan.cluster.with_feature_names(wanted.extension(EXT_FEATURE_NAMES))
        assert full.says_the_same(wanted)
        if plan.one_sector:
            one_sector += 1
            half = HeaderSwitch(plan.cluster, plan.pre_writes, ()).applied(old)
            assert HeaderCluster.parse(half) == HeaderCluster.parse(old)
        else:
            assert plan.pre_writes == ()
    assert one_sector > 0.95 * len(contents[::5]) * len(contents)


def test_refusals() -> None:
    with pytest.raises(UsageError, match="1023"):
        blank().with_backing(b"x" * 1024, None)
    with pytest.raises(UsageError, match="15"):
        blank().with_backing(b"x", b"f" * 16)
    with pytest.raises(EditRefused, match="no space left in the file header"):
        plan_switch(blank(9).encode(), blank(9).with_backing(b"x" * 500, None))
    with pytest.raises(ValueError, match="cluster size"):
        plan_switch(blank(9).encode(), blank(10))
    broken = bytearray(blank(9).encode())
    broken[112:120] = b"\x12\x34\x56\x78\x00\xff\xff\xff"
    with pytest.raises(FormatError, match="claims"):
        HeaderCluster.parse(bytes(broken))
    many = blank(16).header.encode() + b"\x12\x34\x56\x78\0\0\0\0" * 2000
    with pytest.raises(FormatError, match="1024"):
        HeaderCluster.parse(many)
    with pytest.raises(FormatError, match="does not lie in the header cluster"):
        HeaderCluster.parse(
            blank(9).with_backing(b"x" * 300, None).encode()[:16]
            + bytes([0, 0, 2, 0])
            + blank(9).encode()[20:]
        )
