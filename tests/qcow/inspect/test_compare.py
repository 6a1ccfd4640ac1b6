"""Comparing two disks, beside qemu-img compare: verdict, place and exit code."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

import qcow
from qcow.chain import open_chain
from qcow.errors import Cancelled, EncryptedError, QcowError, ReferenceRefused
from qcow.inspect.compare import Comparison, Mismatch, ReadFailed, StatusFailed, compare
from qcow.jobs import CancelToken, Progress
from qcow.storage.gate import Gate
from qcowtui.samples.builder import ImageBuilder
from tests.oracle.catalogue.base import Variant, create, noise, overlay, written
from tests.oracle.variants import VARIANTS
from tests.support.images import patch, pattern, small_builder
from tests.support.qemu import guest_raw, qemu_img, qemu_io
from tests.support.settle import settle

MIB = 1 << 20
CLUSTER = 65536


def _compared(one: Path, other: Path, *formats: str, strict: bool = False) -> Comparison:
    first, second = formats or (None, None)
    with (
        qcow.open(one, format=first) as left,
        qcow.open(other, format=second) as right,
        open_chain(left, Gate.follow()) as a,
        open_chain(right, Gate.follow()) as b,
    ):
        return compare(a, b, strict=strict)


def _said(result: Comparison) -> str:
    """What `qemu-img compare` prints for a result."""
    said = "Warning: Image size mismatch!\n" if result.size_warning else ""
    return (
        said
        + {
            None: "Images are identical.\n",
            Mismatch.SIZE: "Strict mode: Image size mismatch!\n",
            Mismatch.STATUS: f"Strict mode: Offset {result.offset} block status mismatch!\n",
            Mismatch.CONTENT: f"Content mismatch at offset {result.offset}!\n",
        }[result.mismatch]
    )


def _same_verdict(one: Path, other: Path, *formats: str, strict: bool = False) -> str:
    first, second = formats or ("qcow2", "qcow2")
    settle(one.parent)
    flags = ("-s",) if strict else ()
    theirs = qemu_img("compare", *flags, "-f", first, "-F", second, one, other, check=False)
    try:
        result = _compared(one, other, first, second, strict=strict)
        said, code = _said(result), int(not result.identical)
    except QcowError as error:
        said, code = "", error.exit_code
    assert (code, said) == (theirs.returncode, theirs.stdout.decode())
    return said


NOTABLE = ("prealloc", "smaller", "larger", "raw", "deep", "data-file", "extended-l2", "fresh",
           "ext4", "compressed", "zero", "snapshots-three", "scattered", "2m", "512")  # fmt: skip


@pytest.mark.oracle
@pytest.mark.parametrize(
    "variant",
    [
        v
        for v in VARIANTS
        if any(word in v.name for word in NOTABLE) and not v.tags & {"encrypted", "huge"}
    ],
    ids=lambda variant: variant.name,
)
def test_a_raw_copy(variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = variant.build(tmp_path)
    monkeypatch.chdir(path.parent)
    raw = guest_raw(path, tmp_path / "copy.raw")
    formats = ("qcow2", "raw")
    assert _same_verdict(path, raw, *formats) == "Images are identical.\n"
    _same_verdict(path, raw, *formats, strict=True)
    _same_verdict(raw, path, *formats[::-1], strict=True)
    assert _same_verdict(path, path, strict=True) == "Images are identical.\n"
    size = raw.stat().st_size
    if size >= 1024:
        place = random.Random(variant.name).randrange(size // 512) * 512
        old = raw.read_bytes()[place]
        patch(raw, place, bytes([old ^ 0x55]))
        said = _same_verdict(path, raw, *formats)
        assert said == f"Content mismatch at offset {place}!\n"
        _same_verdict(path, raw, *formats, strict=True)


@pytest.mark.oracle
@pytest.mark.parametrize("seed", range(12))
def test_random_pairs(seed: int, tmp_path: Path) -> None:
    """Two images with the same or nearly the same content, stored differently."""
    chosen = random.Random(seed)
    size = chosen.randrange(2 * MIB, 9 * MIB) // 512 * 512
    paths = []
    for name in ("one", "other"):
        options = chosen.choice(
            ("cluster_size=64k", "cluster_size=512", "cluster_size=2M", "cluster_size=4k",
             "extended_l2=on", "cluster_size=1M,preallocation=metadata")
        )  # fmt: skip
        path = create(tmp_path / name, str(size), options)
        same = random.Random(seed // 2)
        commands = []
        for _ in range(same.randrange(1, 12)):
            at = same.randrange(size // 512 - 1) * 512
            length = min(size - at, same.randrange(1, 900) * 512)
            value = same.choice((0, 1, 2))
            zero = value == 0 and chosen.random() < 0.5
            commands.append(f"write -q {'-z' if zero else f'-P {value}'} {at} {length}")
        qemu_io(path, *commands)
        if chosen.random() < 0.3:
            qemu_io(path, f"write -q -P 3 {chosen.randrange(size // 512) * 512} 512")
        paths.append(path)
    for strict in (False, True):
        _same_verdict(*paths, strict=strict)
        _same_verdict(*paths[::-1], strict=strict)


@pytest.mark.oracle
@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
def test_sizes_that_differ(tmp_path: Path, strict: bool) -> None:
    small, large = tmp_path / "small.qcow2", tmp_path / "large.qcow2"
    create(small, "1M")
    qemu_io(small, "write -q -P 1 100k 200k")
    shutil.copy(small, large)
    qemu_img("resize", "-q", large, "3M")
    for step in ("write -q -z 1500k 64k", "write -q -P 0 1600k 64k", "write -q -P 5 2M 512"):
        _same_verdict(small, large, strict=strict)
        _same_verdict(large, small, strict=strict)
        qemu_io(large, step)
    _same_verdict(small, large, strict=strict)
    assert str(2 * MIB) in _same_verdict(large, small) != ""


@pytest.mark.oracle
def test_raw_files_that_end_inside_a_sector(tmp_path: Path) -> None:
    one, other = noise(tmp_path / "one", 1, 5000), tmp_path / "other"
    other.write_bytes(one.read_bytes() + b"\0" * 100)
    formats = ("raw", "raw")
    assert "identical" in _same_verdict(one, other, *formats)
    for place in (0, 4607, 4608, 4999, 5000, 5099):
        other.write_bytes(one.read_bytes() + b"\0" * 100)
        old = other.read_bytes()[place]
        patch(other, place, bytes([old ^ 1]))
        assert "mismatch" in _same_verdict(one, other, *formats)
        _same_verdict(other, one, *formats)


@pytest.mark.oracle
def test_snapshots_and_layers(tmp_path: Path) -> None:
    base = written(tmp_path / "base.qcow2", "4M")
    path = overlay(tmp_path / "top.qcow2", "base.qcow2", "qcow2")
    qemu_img("snapshot", "-c", "clean", path)
    qemu_io(path, "write -q -P 0xa1 1M 1k")
    with qcow.open(path) as image, open_chain(image, Gate.own_folder()) as chain:
        assert isinstance(image, qcow.Image)
        clean = chain.at_snapshot(image.snapshots[0])
        assert compare(chain.at_layer(1), clean).identical
        assert compare(clean, chain) == Comparison(Mismatch.CONTENT, MIB)
        assert compare(chain, chain, strict=True).identical
    assert _compared(base, path) == Comparison(Mismatch.CONTENT, MIB)


def test_what_is_the_same_place_of_the_same_file_is_not_read(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=64 * CLUSTER)
    for number in range(60):
        builder.data(number, pattern(number, CLUSTER))
    builder.snapshot("first")
    builder.data(61, pattern(61, CLUSTER))
    with qcow.open(builder.write(tmp_path / "disk")) as image:
        assert isinstance(image, qcow.Image)
        with open_chain(image, Gate.closed()) as chain:
            reads: list[int] = []
            original = image.storage.read_into

            def recorded(offset: int, buffer: memoryview) -> int:
                reads.append(len(buffer))
                return original(offset, buffer)

            image.storage.read_into = recorded  # type: ignore[method-assign,assignment]
            result = compare(chain.at_snapshot(image.snapshots[0]), chain)
            assert result == Comparison(Mismatch.CONTENT, 61 * CLUSTER)
            assert sum(reads) == CLUSTER


@pytest.mark.oracle
def test_damage_is_told_by_side_and_place(tmp_path: Path) -> None:
    builder = small_builder(snapshot=False)
    good = builder.write(tmp_path / "good")
    bad = builder.write(tmp_path / "bad")
    size = builder.geometry.cluster_size
    with qcow.open(bad) as image:
        table = int(image.active.l1()[0]) & 0xFFFFFFFFFFFE00  # type: ignore[union-attr]
        packed = int.from_bytes(image.storage.read(table + 13 * 8, 8), "big") & (1 << 54) - 1
    patch(bad, packed, b"\xff\xff\xff\xff")
    with pytest.raises(ReadFailed, match="compressed cluster") as caught:
        _compared(good, bad)
    assert (caught.value.side, caught.value.exit_code) == (1, 4)
    _same_verdict(bad, good)
    patch(bad, table + 5 * 8, (0x8000000000000000 | 5 * size + 512).to_bytes(8, "big"))
    with pytest.raises(StatusFailed, match="check") as damaged:
        _compared(bad, good)
    assert (damaged.value.side, damaged.value.offset, damaged.value.exit_code) == (0, 5 * size, 3)
    _same_verdict(bad, good)
    with pytest.raises(StatusFailed):
        _compared(bad, good, strict=True)
    other = small_builder(snapshot=False)
    other.data(2, b"different")
    assert _compared(bad, other.write(tmp_path / "other")).mismatch is Mismatch.CONTENT


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=CLUSTER)
    builder.backing("base")
    path = builder.write(tmp_path / "top")
    with (
        qcow.open(path) as image,
        open_chain(image, Gate.closed()) as chain,
        pytest.raises(ReferenceRefused),
    ):
        compare(chain, chain)


@pytest.mark.oracle
def test_encrypted_disks_are_not_compared(tmp_path: Path) -> None:
    path = tmp_path / "aes.qcow2"
    created = ("create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=abc")
    qemu_img(*created, "-o", "encrypt.format=aes,encrypt.key-secret=s", path, "1M")
    with pytest.raises(EncryptedError):
        _compared(path, path)


@pytest.mark.oracle
def test_progress_and_cancel(tmp_path: Path) -> None:
    path = written(tmp_path / "disk.qcow2", "8M")
    raw = guest_raw(path, tmp_path / "disk.raw")
    with (
        qcow.open(path) as one,
        qcow.open(raw) as other,
        open_chain(one, Gate.closed()) as a,
        open_chain(other, Gate.closed()) as b,
    ):
        seen: list[Progress] = []
        assert compare(a, b, progress=seen.append).identical
        assert (seen[-1].done, seen[-1].total) == (8 * MIB, 8 * MIB)
        cancel = CancelToken()
        cancel.cancel()
        with pytest.raises(Cancelled):
            compare(a, b, cancel=cancel)
