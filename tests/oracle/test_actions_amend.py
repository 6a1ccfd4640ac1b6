"""Each option of ``amend`` does what ``qemu-img amend -o`` does."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

import qcow
from qcow.actions.amend import Amend
from qcow.actions.amend_options import AmendOptions
from qcow.actions.history import Undo
from qcow.edit.apply import apply
from qcow.edit.plan import Plan
from qcow.errors import EditRefused, QcowError, UsageError
from qcow.image.image import Image
from qcow.layout.header import Header
from tests.support.edited import apply_as_planned, assert_sound, contents, copied, info
from tests.support.images import patch
from tests.support.qemu import create_encrypted, guest_bytes, qemu_img, qemu_io, with_key

pytestmark = pytest.mark.oracle

_WIDTHS = (1, 2, 4, 8, 16, 32, 64)


@pytest.fixture(autouse=True)
def _own_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def _image(folder: Path, *options: str, size: str = "3M", name: str = "a.qcow2") -> Path:
    path = folder / name
    given = [part for option in options for part in ("-o", option)]
    qemu_img("create", "-q", "-f", "qcow2", *given, path, size)
    return path


def _amend(path: Path, **options: str | int | bool) -> Plan:
    (made,) = apply_as_planned(path, Amend(AmendOptions.of(options)))
    return made


def _by_qemu(path: Path, **options: str | int | bool) -> None:
    words = {True: "on", False: "off"}
    pairs = (
        f"{key}={words[value] if isinstance(value, bool) else value}"
        for key, value in options.items()
    )
    qemu_img("amend", "-f", "qcow2", "-o", ",".join(pairs), path)


def _same_as_qemu(ours: Path, **options: str | int | bool) -> Plan:
    """Amend two copies, see that they are the same, and that no guest byte changed."""
    before = contents(ours)
    theirs = copied(ours, "theirs.qcow2")
    made = _amend(ours, **options)
    _by_qemu(theirs, **options)
    assert_sound(ours)
    assert info(ours) == info(theirs)
    assert contents(ours) == (contents(theirs) if "size" in options else before)
    return made


def _header(path: Path) -> Header:
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        return image.header


def _extensions(path: Path) -> list[tuple[int, bytes]]:
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        return [(extension.magic, extension.data) for extension in image.extensions]


# ---- refcount widths


@pytest.mark.parametrize("cluster", ["512", "4k"])
@pytest.mark.parametrize("old", _WIDTHS)
def test_refcount_widths_each_to_each(tmp_path: Path, old: int, cluster: str) -> None:
    path = _image(tmp_path, f"refcount_bits={old}", f"cluster_size={cluster}", size="700k")
    qemu_io(path, "write -P 1 0 300k", "write -P 2 400k 100k")
    expected, said = guest_bytes(path), info(path)
    for new in _WIDTHS:
        ours = copied(path, "ours.qcow2")
        _amend(ours, refcount_bits=new)
        assert_sound(ours)
        assert guest_bytes(ours) == expected
        said["format-specific"]["data"]["refcount-bits"] = new
        assert info(ours) == said


@pytest.mark.parametrize(
    ("options", "old", "new"),
    [
        ((), 16, 64),
        ((), 16, 4),
        (("cluster_size=512",), 16, 64),
        (("cluster_size=512",), 64, 8),
        (("cluster_size=4k", "extended_l2=off"), 8, 32),
        (("extended_l2=on",), 16, 8),
        (("compression_type=zstd",), 32, 16),
    ],
)
def test_refcount_widths_with_snapshots(
    tmp_path: Path, options: tuple[str, ...], old: int, new: int
) -> None:
    path = _image(tmp_path, f"refcount_bits={old}", *options)
    qemu_io(path, "write -P 1 0 1M", "write -c -P 3 2M 256k")
    qemu_img("snapshot", "-c", "first", path)
    qemu_io(path, "write -P 2 64k 100k", "write -z 1M 64k")
    qemu_img("snapshot", "-c", "second", path)
    qemu_io(path, "write -P 4 128k 10k")
    _same_as_qemu(path, refcount_bits=new)


def test_large_clusters(tmp_path: Path) -> None:
    """QEMU 7.2 takes minutes for this."""
    path = _image(tmp_path, "cluster_size=2M", size="20M")
    qemu_io(path, "write -P 1 0 6M")
    qemu_img("snapshot", "-c", "first", path)
    qemu_io(path, "write -P 2 1M 1M")
    expected = contents(path)
    for new in (64, 2, 16):
        _amend(path, refcount_bits=new)
        assert_sound(path)
        assert contents(path) == expected
        assert info(path)["format-specific"]["data"]["refcount-bits"] == new


def test_the_refcount_table_grows(tmp_path: Path) -> None:
    path = _image(tmp_path, "cluster_size=512", "refcount_bits=1", size="12M")
    qemu_io(path, "write -P 1 0 9M")
    assert _header(path).refcount_table_clusters == 1
    expected = contents(path)
    _amend(path, refcount_bits=64)
    assert_sound(path)
    assert _header(path).refcount_table_clusters > 1
    assert contents(path) == expected


def test_a_count_that_does_not_fit(tmp_path: Path) -> None:
    path = _image(tmp_path)
    qemu_io(path, "write -P 1 512k 1M")
    for name in "abcd":
        qemu_img("snapshot", "-c", name, path)
    before = path.read_bytes()
    for width in (1, 2):
        with pytest.raises(EditRefused) as refused:
            apply(str(path), [Amend(AmendOptions(refcount_bits=width))])
        assert path.read_bytes() == before
        said = qemu_img("amend", "-o", f"refcount_bits={width}", copied(path, "t"), check=False)
        assert said.stderr.decode().startswith(f"qemu-img: {refused.value}\n")
    _amend(path, refcount_bits=4)
    assert_sound(path)


# ---- versions


@pytest.mark.parametrize("cluster", ["512", "4k", "64k", "2M"])
def test_upgrade_and_downgrade(tmp_path: Path, cluster: str) -> None:
    path = _image(tmp_path, "compat=0.10", f"cluster_size={cluster}", size="5M")
    qemu_io(path, "write -P 1 0 1M", "write -c -P 3 4M 1M")
    qemu_img("snapshot", "-c", "first", path)
    qemu_io(path, "write -P 2 64k 100k")
    _same_as_qemu(path, compat="1.1", lazy_refcounts=True)
    assert _header(path).header_length == 112
    names = {magic for magic, _ in _extensions(path)}
    assert (0x6803F857 in names) == (cluster in ("64k", "2M"))
    _same_as_qemu(path, lazy_refcounts=False)
    # Reserved clusters and none, in a table that is shared and in one that is not.
    qemu_io(path, "write -P 5 2M 2M", "write -z 2M 2M", "write -z -u 1500k 64k")
    qemu_img("snapshot", "-c", "zeros", path)
    qemu_io(path, "write -P 6 2M 4k", "write -z -u 1700k 64k")
    made = _same_as_qemu(path, compat="v2")
    assert made.outcome.facts["zero-clusters"] > 0
    assert made.outcome.facts["allocated-clusters"] == 0
    assert made.switches == 1
    assert {magic for magic, _ in _extensions(path)} == set()


def test_upgrade_is_qemus_header_byte_by_byte(tmp_path: Path) -> None:
    _image(tmp_path, size="3M", name="base.qcow2")
    ours = _image(tmp_path, "compat=0.10", f"backing_file={tmp_path}/base.qcow2",
                  "backing_fmt=qcow2")  # fmt: skip
    theirs = copied(ours, "theirs.qcow2")
    _amend(ours, compat="1.1")
    _by_qemu(theirs, compat="1.1")
    assert ours.read_bytes()[:112] == theirs.read_bytes()[:112]
    assert sorted(_extensions(ours)) == sorted(_extensions(theirs))


@pytest.mark.parametrize("name_length", [20, 900])
def test_upgrade_moves_extensions_and_name_in_one_sector(tmp_path: Path, name_length: int) -> None:
    _image(tmp_path, name="base.qcow2")
    qemu_io(tmp_path / "base.qcow2", "write -P 9 1M 1M")
    name = "base.qcow2"
    name = "./" * ((name_length - len(name)) // 2) + name
    path = _image(tmp_path, "compat=0.10", f"backing_file={name}", "backing_fmt=qcow2")
    extension = struct.pack(">II", 0x12345678, 5) + b"mine!" + bytes(3)
    head = path.read_bytes()[:4096]
    at = struct.unpack_from(">Q", head, 8)[0]
    # The unknown extension comes before the end marker; the name moves behind it.
    area = head[72 : 72 + 8 + 8] + extension + bytes(8)
    patch(path, 72, area + name.encode())
    patch(path, 8, struct.pack(">Q", 72 + len(area)))
    assert at + len(extension) == 72 + len(area)
    before = contents(path)
    made = _amend(path, compat="1.1")
    assert not made.journal
    assert_sound(path)
    assert contents(path) == before
    assert (0x12345678, b"mine!") in _extensions(path)
    made = _amend(path, compat="0.10")
    assert not made.journal
    assert contents(path) == before
    assert (0x12345678, b"mine!") in _extensions(path)
    assert info(path)["backing-filename"] == name


def test_no_room_for_the_longer_header(tmp_path: Path) -> None:
    _image(tmp_path, name="base.qcow2")
    name = "./" * 200 + "base.qcow2"
    path = _image(tmp_path, "compat=0.10", "cluster_size=512", f"backing_file={name}",
                  "backing_fmt=qcow2")  # fmt: skip
    before = path.read_bytes()
    with pytest.raises(EditRefused, match="no space left in the file header"):
        apply(str(path), [Amend(AmendOptions(compat="1.1"))])
    assert path.read_bytes() == before


@pytest.mark.parametrize("cluster", ["512", "64k"])
def test_downgrade_over_a_backing_file(tmp_path: Path, cluster: str) -> None:
    base = _image(tmp_path, name="base.qcow2")
    qemu_io(base, "write -P 9 0 3M")
    path = _image(tmp_path, f"cluster_size={cluster}", f"backing_file={base}", "backing_fmt=qcow2")
    qemu_io(path, "write -P 1 0 1M", "write -z 1M 128k", "write -z -u 2M 64k")
    qemu_img("snapshot", "-c", "first", path)
    # The active state has a table of its own now, which shares zero clusters with the snapshot's.
    qemu_io(path, "write -P 2 192k 1k", "write -z -u 2500k 64k")
    made = _same_as_qemu(path, compat="0.10")
    assert made.outcome.facts["allocated-clusters"] > 0


def test_downgrade_spares_what_a_snapshot_shares(tmp_path: Path) -> None:
    """A zero cluster may keep a place whose data a snapshot still shows; QEMU 7.2 destroys it."""
    path = _image(tmp_path)
    qemu_io(path, "write -P 1 0 256k")
    qemu_img("snapshot", "-c", "first", path)
    qemu_io(path, "write -z 0 128k")
    before = contents(path)
    _amend(path, compat="0.10")
    assert_sound(path)
    assert contents(path) == before


def test_downgrade_of_zstd(tmp_path: Path) -> None:
    path = _image(tmp_path, "compression_type=zstd")
    qemu_io(path, "write -P 1 0 256k")
    _same_as_qemu(copied(path, "plain.qcow2"), compat="0.10")
    qemu_io(path, "write -c -P 1 1M 64k")
    qemu_img("snapshot", "-c", "first", path)
    qemu_io(path, "write -P 1 1M 64k")  # now only the snapshot has compressed data
    before = path.read_bytes()
    with pytest.raises(EditRefused, match="zstd compression type and existing compressed clusters"):
        apply(str(path), [Amend(AmendOptions(compat="0.10"))])
    assert path.read_bytes()[: len(before)] == before


def test_downgrade_of_encrypted_images(tmp_path: Path) -> None:
    """Without a backing file nothing has to be written; over one, zeros would need the key."""
    plain = tmp_path / "plain.qcow2"
    create_encrypted(plain, "1M")
    _image(tmp_path, name="base.qcow2", size="1M")
    over = tmp_path / "over.qcow2"
    create_encrypted(over, "1M", f"backing_file={tmp_path}/base.qcow2", "backing_fmt=qcow2")
    for path in (plain, over):
        qemu_io(path, "write -P 1 0 128k", "write -z -u 512k 64k", key="luks")
    before = over.read_bytes()
    with pytest.raises(EditRefused, match="encrypted"):
        apply(str(over), [Amend(AmendOptions(compat="0.10"))])
    assert over.read_bytes()[: len(before)] == before
    raw = tmp_path / "before.raw"
    qemu_img("convert", "-O", "raw", *with_key(plain), raw)
    _amend(plain, compat="0.10")
    qemu_img("check", *with_key(plain))
    qemu_img("convert", "-O", "raw", *with_key(plain), tmp_path / "after.raw")
    assert (tmp_path / "after.raw").read_bytes() == raw.read_bytes()


def test_downgrade_refuses_bitmaps(tmp_path: Path) -> None:
    """QEMU 7.2 loses them and leaks their clusters."""
    path = _image(tmp_path)
    qemu_img("bitmap", "--add", path, "b")
    before = path.read_bytes()
    with pytest.raises(EditRefused, match="persistent bitmap"):
        apply(str(path), [Amend(AmendOptions(compat="0.10"))])
    assert path.read_bytes() == before
    qemu_img("bitmap", "--remove", path, "b")
    _same_as_qemu(path, compat="0.10")


# ---- the other options


def test_size(tmp_path: Path) -> None:
    path = _image(tmp_path, "compat=0.10")
    qemu_io(path, "write -P 1 0 1M")
    qemu_img("snapshot", "-c", "first", path)
    _same_as_qemu(path, size=5 << 20, compat="1.1", refcount_bits=32)
    _same_as_qemu(path, size=2 << 20)
    qemu_img("snapshot", "-d", "first", path)
    _same_as_qemu(path, size=3 << 20, compat="0.10", refcount_bits=16)


def test_data_file(tmp_path: Path) -> None:
    path = _image(tmp_path, f"data_file={tmp_path}/one.raw", "data_file_raw=on")
    qemu_io(path, "write -P 1 0 1M")
    shutil.copy(tmp_path / "one.raw", tmp_path / "two.raw")
    _same_as_qemu(path, data_file_raw=False)
    made = _same_as_qemu(path, data_file=f"{tmp_path}/two.raw")
    assert made.outcome.warnings
    (tmp_path / "one.raw").unlink()
    assert_sound(path)


def test_the_backing_file_may_be_named_as_it_is(tmp_path: Path) -> None:
    base = _image(tmp_path, name="base.qcow2")
    path = _image(tmp_path, f"backing_file={base}", "backing_fmt=qcow2")
    _same_as_qemu(path, backing_file=str(base), backing_fmt="qcow2", lazy_refcounts=True)


def test_nothing_to_do(tmp_path: Path) -> None:
    path = _image(tmp_path)
    before = path.read_bytes()
    made = _amend(path, compat="1.1", refcount_bits=16, lazy_refcounts=False, size=3 << 20)
    assert (made.switches, made.written) == (0, 0)
    assert path.read_bytes() == before


def test_undo(tmp_path: Path) -> None:
    path = _image(tmp_path)
    qemu_io(path, "write -P 1 0 1M", "write -z 1M 64k")
    before, sector = contents(path), path.read_bytes()[:512]
    apply(str(path), [Amend(AmendOptions(compat="0.10"))])
    assert info(path)["format-specific"]["data"]["compat"] == "0.10"
    apply(str(path), [Undo()])
    assert path.read_bytes()[:512] == sector
    assert contents(path) == before
    assert_sound(path)


@pytest.mark.parametrize(
    ("created", "options", "kind"),
    [
        ("", "cluster_size=64k", UsageError),
        ("", "preallocation=off", UsageError),
        ("", "extended_l2=on", UsageError),
        ("", "compression_type=zstd", UsageError),
        ("", "encryption=on", UsageError),
        ("", "encrypt.format=luks", UsageError),
        ("", "foo=1", UsageError),
        ("", "compat=2", UsageError),
        ("", "refcount_bits=3", UsageError),
        ("", "refcount_bits=128", UsageError),
        ("", "data_file=x", UsageError),
        ("", "data_file_raw=on", UsageError),
        ("", "compat=0.10,refcount_bits=8", UsageError),
        ("", "compat=0.10,lazy_refcounts=on", UsageError),
        ("compat=0.10", "refcount_bits=8", UsageError),
        ("compat=0.10", "lazy_refcounts=on", UsageError),
        ("refcount_bits=8", "compat=0.10", EditRefused),
        ("extended_l2=on", "compat=0.10", EditRefused),
        ("data_file=d.raw", "compat=0.10", EditRefused),
        ("", "backing_file=z", EditRefused),
        ("", "backing_fmt=raw", EditRefused),
    ],
)
def test_refusals_are_qemus(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    created: str,
    options: str,
    kind: type[QcowError],
) -> None:
    monkeypatch.chdir(tmp_path)
    path = _image(tmp_path, *([created] if created else []))
    before = path.read_bytes()
    pairs = dict(pair.split("=", 1) for pair in options.split(","))
    values = {
        key: int(value) if value.isdigit() and key == "refcount_bits" else value == "on" or value
        for key, value in pairs.items()
    }
    with pytest.raises(kind) as refused:
        apply(str(path), [Amend(AmendOptions.of(values))])
    assert path.read_bytes() == before
    said = qemu_img("amend", "-f", "qcow2", "-o", options, path, check=False)
    assert said.returncode == 1
    # A second line is advice, which names our own verbs.
    first = said.stderr.decode().splitlines()[0]
    assert first == f"qemu-img: {str(refused.value).splitlines()[0]}"


def test_snapshots_of_another_size_prevent_a_downgrade(tmp_path: Path) -> None:
    path = _image(tmp_path)
    qemu_img("snapshot", "-c", "first", path)
    qemu_img("resize", "-q", path, "4M")
    with pytest.raises(EditRefused, match="Internal snapshots prevent downgrade of image"):
        apply(str(path), [Amend(AmendOptions(compat="0.10"))])
    assert (
        b"Internal snapshots prevent"
        in qemu_img("amend", "-o", "compat=0.10", path, check=False).stderr
    )
