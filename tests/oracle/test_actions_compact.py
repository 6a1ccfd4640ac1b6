"""``compact`` beside QEMU: all states read the same, the file is shorter, check finds nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcow.actions.compact import Compact
from qcow.actions.history import Reclaim, Undo
from qcow.edit.apply import apply, plan
from qcow.edit.plan import Plan
from qcow.image.image import Image
from qcow.opening import open as open_image
from tests.support.images import qemu_check, sha256
from tests.support.qemu import guest_raw, qemu_img, qemu_io

pytestmark = pytest.mark.oracle

_OPTIONS = {
    "default": "",
    "v2": "compat=0.10",
    "512": "cluster_size=512",
    "4k-8bit": "cluster_size=4k,refcount_bits=8",
    "2bit": "refcount_bits=2",
    "64bit": "refcount_bits=64",
    "extended": "extended_l2=on",
    "2M": "cluster_size=2M",
    "zlib": "",
    "zstd": "compression_type=zstd",
    "zstd-4k": "compression_type=zstd,cluster_size=4k",
    "backing": "",
    "v2-backing": "compat=0.10",
    "bitmaps": "",
    "data-file": "cluster_size=4k",
}
_MODES = {
    "plain": Compact(),
    "all": Compact(zeroes=True, defragment=True, spare=4 << 20),
}


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def make(folder: Path, kind: str) -> Path:
    """A disk of 12 MiB: two snapshots are left of three, and holes, and zeros that are data."""
    path = folder / "disk.qcow2"
    options = ["-o", _OPTIONS[kind]] if _OPTIONS[kind] else []
    if kind == "data-file":
        options[1] += f",data_file={folder}/data.raw"
    below: list[str] = []
    if "backing" in kind:
        qemu_img("create", "-q", "-f", "qcow2", folder / "base.qcow2", "12M")
        qemu_io(folder / "base.qcow2", "write -P 200 0 12M")
        below = ["-b", "base.qcow2", "-F", "qcow2"]
    if kind.startswith("z"):
        raw = folder / "source.raw"
        # Noise that compresses to about a half, so that streams cross clusters.
        text = bytes(range(256)) * 4
        parts = [bytes(n * 7 + i * i & 255 for i in range(6000)) + text for n in range(300)]
        raw.write_bytes(b"".join(parts).ljust(4 << 20, b"\0"))
        qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", *options, raw, path)
        qemu_img("resize", "-q", path, "12M")
    else:
        qemu_img("create", "-q", "-f", "qcow2", *options, *below, path, "12M", cwd=folder)
        qemu_io(path, *(f"write -P {n + 1} {n * 512}k 450k" for n in range(8)))
    if kind == "bitmaps":
        qemu_img("bitmap", "--add", "--enable", path, "kept", "-g", "65536")
    snapshots = kind != "data-file"
    if snapshots:
        qemu_img("snapshot", "-c", "first", path)
    qemu_io(path, "write -P 33 1M 1M", "write -P 34 6M 700k", "write -P 0 5M 300k")
    if snapshots:
        qemu_img("snapshot", "-c", "middle", path)
        qemu_io(path, "write -P 35 1500k 1M", "write -P 36 7M 700k")
        if kind != "2bit":  # which cannot count a third snapshot
            qemu_img("snapshot", "-c", "last", path)
        qemu_img("snapshot", "-d", "middle", path)
    qemu_io(path, "discard 2M 1M", "write -P 37 8M 1M", "write -P 0 8300k 200k")
    return path


def contents(path: Path) -> dict[str, str]:
    """What QEMU reads of the active state and of every snapshot."""
    with open_image(path) as image:
        assert isinstance(image, Image)
        names = [snapshot.id.decode() for snapshot in image.snapshots]
    found = {}
    for name in ["", *names]:
        raw = path.with_name("read.raw")
        guest_raw(path, raw, name or None)
        found[name] = sha256(raw)
        raw.unlink()
    return found


def compacted(path: Path, action: Compact) -> Plan:
    with open_image(path) as image:
        assert isinstance(image, Image)
        planned = plan(action, image)
    (done,) = apply(str(path), [action]).plans
    one, other = planned.to_json(), done.to_json()
    # Having been read, some space that was reserved and never written counts as data.
    for name in ("returned", "disk-after") if action.zeroes else ():
        del one[name], other[name]
    assert one == other
    return done


@pytest.mark.parametrize("kind", list(_OPTIONS))
@pytest.mark.parametrize("mode", list(_MODES))
def test_same_content_in_a_shorter_file(kind: str, mode: str, tmp_path: Path) -> None:
    path = make(tmp_path, kind)
    before, length = contents(path), path.stat().st_size
    done = compacted(path, _MODES[mode])
    assert qemu_check(path).code == 0
    assert contents(path) == before
    assert path.stat().st_size == done.length_after
    if kind != "data-file":
        assert done.length_after < length
        assert done.outcome.facts["saved-length"] == length - done.length_after
    if kind == "bitmaps":
        told = qemu_img("info", path).stdout
        assert b"kept" in told
        assert b"in-use" not in told


@pytest.mark.parametrize("kind", ["default", "v2", "512", "extended", "zstd-4k", "bitmaps"])
def test_undo_stays_possible_until_it_is_reclaimed(kind: str, tmp_path: Path) -> None:
    path = make(tmp_path, kind)
    before, sector = contents(path), path.read_bytes()[:512]
    done = compacted(path, Compact(zeroes=True, reclaim=False))
    assert done.switches
    assert qemu_check(path).code == 0
    assert contents(path) == before
    apply(str(path), [Undo()])
    assert path.read_bytes()[:512] == sector
    assert contents(path) == before
    compacted(path, Compact(zeroes=True, reclaim=False))
    apply(str(path), [Reclaim()])
    assert qemu_check(path).code == 0
    assert contents(path) == before
    # What undo had kept is free now.
    length = path.stat().st_size
    assert compacted(path, Compact()).length_after < length
