"""Each action on bitmaps does what ``qemu-img bitmap`` does."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

import qcow
from qcow.actions.bitmap import (
    BitmapAdd,
    BitmapClear,
    BitmapDisable,
    BitmapEnable,
    BitmapMerge,
    BitmapRemove,
)
from qcow.actions.resize import Resize
from qcow.actions.snapshot import SnapshotCreate
from qcow.edit.apply import Action, apply
from qcow.errors import EditRefused, NotFoundError, QcowError, UsageError
from qcow.image.image import Image
from tests.support.edited import (
    apply_as_planned,
    assert_sound,
    contents,
    copied,
    dirty,
    dirty_by_qemu,
    info,
)
from tests.support.images import patch
from tests.support.qemu import qemu_img, qemu_io

pytestmark = pytest.mark.oracle

_VARIANTS = {
    "plain": (),
    "512": ("cluster_size=512",),
    "4k": ("cluster_size=4k", "refcount_bits=64"),
    "2m": ("cluster_size=2M", "refcount_bits=1"),
    "extended": ("extended_l2=on",),
    "zstd": ("compression_type=zstd",),
    "external": ("data_file={folder}/data.raw",),
    "raw external": ("data_file={folder}/data.raw", "data_file_raw=on"),
}
_SIZE = 8 << 20


@pytest.fixture(autouse=True)
def _own_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def _image(folder: Path, *options: str, size: int = _SIZE) -> Path:
    path = folder / "a.qcow2"
    given = [f"-o{option.format(folder=folder)}" for option in options]
    qemu_img("create", "-q", "-f", "qcow2", *given, path, str(size))
    return path


def _with_bitmaps(folder: Path, *options: str) -> Path:
    """Bitmaps with something in them: fine and coarse (both recording), and a disabled one."""
    path = _image(folder, *options)
    qemu_img("bitmap", "--add", "-g", "512", path, "fine")
    qemu_img("bitmap", "--add", "-g", "1M", path, "coarse")
    qemu_io(path, "write -P 1 0 100k", "write -P 2 3000k 1k", f"write -P 3 {_SIZE - 512} 512")
    qemu_img("bitmap", "--add", "--disable", path, "still")
    qemu_io(path, "write -P 4 5M 70k", "write -z 7M 64k")
    return path


def _assert_same(ours: Path, theirs: Path, names: tuple[str, ...]) -> None:
    assert_sound(ours)
    assert info(ours) == info(theirs)
    assert contents(ours) == contents(theirs)
    for name in names:
        assert dirty(ours, name) == dirty(theirs, name) == dirty_by_qemu(ours, name), name


_STEPS: list[tuple[Action, tuple[str, ...]]] = [
    (BitmapAdd("new"), ("--add", "new")),
    (BitmapAdd("wide", 1 << 31, disabled=True), ("--add", "--disable", "-g", "2G", "wide")),
    (BitmapMerge("fine", "coarse"), ("--merge", "fine", "coarse")),
    (BitmapMerge("coarse", "fine"), ("--merge", "coarse", "fine")),
    (BitmapMerge("fine", "wide"), ("--merge", "fine", "wide")),
    (BitmapMerge("still", "new"), ("--merge", "still", "new")),
    (BitmapClear("coarse"), ("--clear", "coarse")),
    (BitmapDisable("coarse"), ("--disable", "coarse")),
    (BitmapEnable("still"), ("--enable", "still")),
    (BitmapRemove("new"), ("--remove", "new")),
    (BitmapRemove("fine"), ("--remove", "fine")),
]


@pytest.mark.parametrize("variant", _VARIANTS)
def test_each_step_equals_qemu(tmp_path: Path, variant: str) -> None:
    ours = _with_bitmaps(tmp_path, *_VARIANTS[variant])
    theirs = copied(ours, "theirs.qcow2")
    left = ["fine", "coarse", "still"]
    for action, flags in _STEPS:
        apply_as_planned(ours, action)
        qemu_img("bitmap", *flags[:-1], theirs, flags[-1])
        name = flags[-1]
        if isinstance(action, BitmapAdd):
            left.append(name)
        elif isinstance(action, BitmapRemove):
            left.remove(name)
        assert info(ours) == info(theirs)
        assert [dirty(ours, n) for n in left] == [dirty(theirs, n) for n in left], flags
    _assert_same(ours, theirs, tuple(left))


def test_the_last_one_leaves_no_trace(tmp_path: Path) -> None:
    path = _image(tmp_path)
    before = path.read_bytes()[:4096]
    plans = apply_as_planned(
        path, BitmapAdd("a"), BitmapAdd("b"), BitmapRemove("a"), BitmapRemove("b")
    )
    assert not any(plan.journal for plan in plans)  # the extension fits into the first sector
    assert_sound(path)
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        assert image.header.autoclear_features == 0
        assert image.bitmap_directory is None
    # All but the places of tables is what it was; the new extension went and left zeros.
    after = path.read_bytes()[:4096]
    assert after[72:] == before[72:]


@pytest.mark.parametrize(
    ("size", "cluster", "expected"), [(1 << 20, 512, 4096), (1 << 20, 1 << 14, 1 << 14)]
)
def test_the_default_granularity_is_qemus(
    tmp_path: Path, size: int, cluster: int, expected: int
) -> None:
    ours = _image(tmp_path, f"cluster_size={cluster}", size=size)
    theirs = copied(ours, "theirs.qcow2")
    (made,) = apply_as_planned(ours, BitmapAdd("b"))
    qemu_img("bitmap", "--add", theirs, "b")
    assert info(ours) == info(theirs)
    assert made.outcome.facts["granularity"] == expected


@pytest.mark.parametrize("ours_first", [True, False])
def test_merging_from_another_file(tmp_path: Path, ours_first: bool) -> None:
    ours = _with_bitmaps(tmp_path)
    (tmp_path / "other").mkdir()
    other = _with_bitmaps(tmp_path / "other", "cluster_size=4k")
    qemu_io(other, "write 2M 300k")
    theirs = copied(ours, "theirs.qcow2")
    for name, source in (("coarse", "fine"), ("fine", "coarse")):
        if ours_first:
            apply_as_planned(ours, BitmapMerge(source, name, str(other), "qcow2"))
        else:
            apply(str(ours), [BitmapMerge(source, name, str(other))])
        qemu_img("bitmap", "--merge", source, "-b", other, "-F", "qcow2", theirs, name)
    _assert_same(ours, theirs, ("fine", "coarse", "still"))


def test_large_and_full_bitmaps(tmp_path: Path) -> None:
    """More than a window of bits, stored clusters and stretches of ones, in both directions."""
    size = 12 << 30
    ours = _image(tmp_path, size=size)
    for name, granularity in (("fine", "512"), ("coarse", "64k"), ("mine", "512")):
        qemu_img("bitmap", "--add", "-g", granularity, ours, name)
    qemu_io(
        ours,
        "discard 1G 1G",
        "discard 2G 1G",
        "discard 5M 1M",
        "write 4G 1k",
        f"discard {size - 512} 512",
    )
    qemu_img("bitmap", "--clear", ours, "mine")
    theirs = copied(ours, "theirs.qcow2")
    apply_as_planned(ours, BitmapMerge("fine", "mine"), BitmapMerge("coarse", "fine"))
    qemu_img("bitmap", "--merge", "fine", theirs, "mine")
    qemu_img("bitmap", "--merge", "coarse", theirs, "fine")
    assert_sound(ours)
    assert info(ours) == info(theirs)
    for name in ("fine", "mine", "coarse"):
        assert dirty(ours, name) == dirty(theirs, name) == dirty_by_qemu(ours, name)


@pytest.mark.parametrize(
    ("action", "flags", "kind"),
    [
        (BitmapAdd("still"), ("--add", "still"), EditRefused),
        (BitmapAdd(""), ("--add", ""), UsageError),
        (BitmapAdd("x", 600), ("--add", "-g", "600", "x"), UsageError),
        (BitmapAdd("x", 256), ("--add", "-g", "256", "x"), UsageError),
        (BitmapRemove("x"), ("--remove", "x"), NotFoundError),
        (BitmapClear("x"), ("--clear", "x"), NotFoundError),
        (BitmapEnable("x"), ("--enable", "x"), NotFoundError),
        (BitmapDisable("x"), ("--disable", "x"), NotFoundError),
        (BitmapMerge("x", "still"), ("--merge", "x", "still"), NotFoundError),
        (BitmapMerge("still", "x"), ("--merge", "still", "x"), NotFoundError),
    ],
)
def test_refusals_are_qemus(
    tmp_path: Path, action: Action, flags: tuple[str, ...], kind: type[QcowError]
) -> None:
    path = _with_bitmaps(tmp_path)
    before = path.read_bytes()
    with pytest.raises(kind) as refused:
        apply(str(path), [action])
    assert path.read_bytes() == before
    said = qemu_img("bitmap", *flags[:-1], path, flags[-1], check=False)
    assert said.returncode == 1
    assert said.stderr.decode() == f"qemu-img: {refused.value}\n"


@pytest.mark.parametrize(
    ("options", "size", "action", "why"),
    [
        (("compat=0.10",), _SIZE, BitmapAdd("b"), "Cannot store dirty bitmaps in qcow2 v2 files"),
        ((), _SIZE, BitmapAdd("n" * 1024), "Name length exceeds maximum (1023 characters)"),
        (
            (),
            16 << 40,
            BitmapAdd("b", 512),
            "Too much space will be occupied by the bitmap. Use larger granularity",
        ),
    ],
)
def test_what_cannot_be_stored(
    tmp_path: Path, options: tuple[str, ...], size: int, action: BitmapAdd, why: str
) -> None:
    path = _image(tmp_path, *options, size=size)
    with pytest.raises(EditRefused) as refused:
        apply(str(path), [action])
    assert str(refused.value).endswith(f"': {why}")
    said = qemu_img("bitmap", "--add", "-g", str(action.granularity or 65536), path, action.name,
                    check=False)  # fmt: skip
    assert said.stderr.decode().rstrip().endswith(f"': {why}")


def test_a_disk_of_no_bytes_is_refused(tmp_path: Path) -> None:
    """QEMU says it adds the bitmap and then loses it."""
    path = _image(tmp_path, size=0)
    with pytest.raises(EditRefused):
        apply(str(path), [BitmapAdd("b")])


def test_bitmaps_of_disks_of_different_sizes(tmp_path: Path) -> None:
    path = _with_bitmaps(tmp_path)
    (tmp_path / "other").mkdir()
    other = _image(tmp_path / "other", size=_SIZE // 2)
    qemu_img("bitmap", "--add", other, "b")
    with pytest.raises(EditRefused) as refused:
        apply(str(path), [BitmapMerge("b", "fine", str(other), "qcow2")])
    said = qemu_img("bitmap", "--merge", "b", "-b", other, "-F", "qcow2", path, "fine", check=False)
    assert said.stderr.decode() == f"qemu-img: {refused.value}\n"


def _in_use(path: Path, name: str) -> None:
    """Leave the bitmap as a program that was killed leaves it."""
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        assert image.bitmap_directory is not None
        at, length = image.bitmap_directory
    data = path.read_bytes()[at : at + length]
    where = data.index(name.encode()) - 24
    patch(path, at + where + 12, struct.pack(">I", 3))


def test_an_inconsistent_bitmap_can_only_be_removed(tmp_path: Path) -> None:
    ours = _with_bitmaps(tmp_path)
    _in_use(ours, "fine")
    theirs = copied(ours, "theirs.qcow2")
    for action in (
        BitmapClear("fine"),
        BitmapEnable("fine"),
        BitmapDisable("fine"),
        BitmapMerge("fine", "coarse"),
        BitmapMerge("coarse", "fine"),
    ):
        with pytest.raises(EditRefused, match="Bitmap 'fine' is inconsistent and cannot be used"):
            apply(str(ours), [action])
    apply_as_planned(ours, BitmapClear("coarse"))
    qemu_img("bitmap", "--clear", theirs, "coarse")
    assert info(ours) == info(theirs)
    apply_as_planned(ours, BitmapRemove("fine"))
    qemu_img("bitmap", "--remove", theirs, "fine")
    _assert_same(ours, theirs, ("coarse", "still"))


def _autoclear(path: Path) -> int:
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        return image.header.autoclear_features


@pytest.mark.parametrize("action", [SnapshotCreate("s"), Resize(2 * _SIZE), BitmapAdd("new")])
def test_stale_bitmaps_are_neither_freed_nor_revived(tmp_path: Path, action: Action) -> None:
    """A program without bitmap support cleared the bit; their clusters may be anybody's now."""
    path = _with_bitmaps(tmp_path)
    patch(path, 88, bytes(8))
    leaked = qemu_img("check", "--output=json", path, check=False)
    assert b'"leaks": ' in leaked.stdout
    before = path.read_bytes()
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        places = [(image.bitmap_directory or (0, 0))[0], *(b.table_offset for b in image.bitmaps)]
    apply_as_planned(path, action)
    after = path.read_bytes()
    for place in places:
        assert after[place : place + 65536] == before[place : place + 65536]
    again = qemu_img("check", "--output=json", path, check=False)
    assert [line for line in again.stdout.splitlines() if b"leaks" in line] == [
        line for line in leaked.stdout.splitlines() if b"leaks" in line
    ]
    names = [b["name"] for b in info(path)["format-specific"]["data"].get("bitmaps", ())]
    assert names == (["new"] if isinstance(action, BitmapAdd) else [])
    qemu_img("check", "-r", "leaks", path)
    assert_sound(path)


def test_unknown_autoclear_bits_are_cleared_and_unknown_extensions_kept(tmp_path: Path) -> None:
    path = _image(tmp_path)
    # An extension nobody knows, in front of the feature name table, odd in length.
    extension = struct.pack(">II", 0x12345678, 13) + b"do not forget" + bytes(3)
    table = path.read_bytes()[112 : 112 + 8 + 0x180 + 8]
    patch(path, 112, extension + table)
    patch(path, 88, struct.pack(">Q", 1 << 63 | 1 << 17))
    for action in (BitmapAdd("b"), SnapshotCreate("s"), Resize(2 * _SIZE), BitmapRemove("b")):
        apply_as_planned(path, action)
        assert _autoclear(path) == (0 if isinstance(action, BitmapRemove) else 1)
        with qcow.open(path) as image:
            assert isinstance(image, Image)
            found = [e.data for e in image.extensions if e.magic == 0x12345678]
        assert found == [b"do not forget"]
    assert_sound(path)


def test_many_bitmaps(tmp_path: Path) -> None:
    """A directory of several clusters."""
    ours = _image(tmp_path, "cluster_size=512")
    names = [f"{number:02}" * 40 for number in range(12)]
    apply(os.fspath(ours), [BitmapAdd(name) for name in names])
    assert_sound(ours)
    assert [b["name"] for b in info(ours)["format-specific"]["data"]["bitmaps"]] == names
    apply(os.fspath(ours), [BitmapRemove(name) for name in names[::2]])
    assert_sound(ours)
    assert [b["name"] for b in info(ours)["format-specific"]["data"]["bitmaps"]] == names[1::2]
