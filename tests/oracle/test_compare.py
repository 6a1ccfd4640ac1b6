"""``compare`` beside qemu-img: verdict, text and exit code, lenient and strict."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.oracle.catalogue.base import Variant
from tests.oracle.conftest import ByName
from tests.oracle.variants import each
from tests.support.cli import qcowtui, qcowtui_process
from tests.support.qemu import guest_raw, qemu_img, qemu_io

pytestmark = pytest.mark.oracle


def _same_verdict(*args: str | Path, grant: tuple[str, ...] = ()) -> int:
    theirs = qemu_img("compare", *args, check=False)
    ours = qcowtui("compare", *grant, *args)
    assert (ours.code, ours.stdout.decode()) == (theirs.returncode, theirs.stdout.decode())
    return ours.code


@each(without="encrypted huge unreadable truncated")
def test_with_its_raw_copy(variant: Variant, image: Path, tmp_path: Path) -> None:
    grant = ("--follow",) if variant.tags & {"follow", "data-file"} else ()
    raw = guest_raw(image, tmp_path / "copy.raw")
    assert _same_verdict("-f", "qcow2", "-F", "raw", image, raw, grant=grant) == 0
    _same_verdict("-s", "-f", "qcow2", "-F", "raw", image, raw, grant=grant)
    size = raw.stat().st_size
    if size >= 1024:
        with raw.open("r+b") as file:
            file.seek(size // 2 // 512 * 512)
            sector = file.read(512)
            file.seek(-512, 1)
            file.write(bytes(byte ^ 0x55 for byte in sector))
        assert _same_verdict("-f", "qcow2", "-F", "raw", image, raw, grant=grant) == 1


@each(having="unreadable")
def test_a_damaged_mapping_ends_with_qemus_code(image: Path, by_name: ByName) -> None:
    assert _same_verdict(image, by_name("written")) == 3


@each(having="truncated")
def test_a_file_cut_off_is_not_taken_for_zeros(image: Path, by_name: ByName) -> None:
    """qemu-img compares zeros there and may call two images identical that were not."""
    ours = qcowtui("compare", image, by_name("written"))
    assert ours.code == 4
    assert b"identical" not in ours.stdout


PAIRS = [
    ("written", "written-v2"),
    ("written", "zero-allocated"),
    ("discarded", "discarded-v2"),
    ("fresh", "fresh-v2"),
    ("fresh", "size-zero"),
    ("size-zero", "fresh"),
    ("fresh", "preallocated-metadata"),
    ("backing-same-size", "backing-larger"),
    ("backing-untouched", "backing-spaces-in-name"),
    ("backing-smaller", "backing-rebased-away"),
    ("compressed-by-guest-zlib", "compressed-by-guest-zstd"),
    ("compressed-zlib", "compressed-zstd"),
    ("compressed-zlib-2m", "compressed-partly-overwritten"),
    ("ext4", "ext4-compressed"),
    ("ext4", "ext4-extended-l2"),
    ("extended-l2-65536", "extended-l2-preallocated"),
    ("huge-sparse", "huge-sparse-2m"),
    ("huge-sparse", "huge-sparse"),
    ("snapshots-resized", "written"),
    ("written", "beyond-end"),
]


@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
@pytest.mark.parametrize("names", PAIRS, ids=" ".join)
def test_two_variants(names: tuple[str, str], strict: bool, by_name: ByName) -> None:
    _same_verdict(*(("-s",) if strict else ()), *(by_name(name) for name in names))


@pytest.fixture
def grown(tmp_path: Path) -> tuple[Path, Path]:
    """An image, and a copy with a larger disk."""
    small, large = tmp_path / "small.qcow2", tmp_path / "large.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", small, "1M")
    qemu_io(small, "write -q -P 1 100k 200k")
    shutil.copy(small, large)
    qemu_img("resize", "-q", large, "3M")
    return small, large


@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
def test_sizes_that_differ(grown: tuple[Path, Path], strict: bool) -> None:
    flags = ("-s",) if strict else ()
    small, large = grown
    assert _same_verdict(*flags, small, large) == int(strict)
    assert _same_verdict(*flags, large, small) == int(strict)
    qemu_io(large, "write -q -z 1500k 64k")
    _same_verdict(*flags, large, small)
    qemu_io(large, "write -q -P 5 2M 512")
    assert _same_verdict(*flags, large, small) == 1
    assert _same_verdict(*flags, small, large) == 1


def test_quiet_says_nothing(grown: tuple[Path, Path]) -> None:
    assert _same_verdict("-q", *grown) == 0


def test_missing_file_ends_with_2(grown: tuple[Path, Path], tmp_path: Path) -> None:
    assert _same_verdict(grown[0], tmp_path / "nothing") == 2


def test_encrypted_without_its_key_is_an_error(by_name: ByName) -> None:
    image = by_name("aes-legacy")
    theirs = qemu_img("compare", image, image, check=False)
    ours = qcowtui("compare", image, image)
    assert (ours.code, ours.stdout) == (theirs.returncode, b"")
    assert ours.code > 1


def test_as_a_whole_process(grown: tuple[Path, Path]) -> None:
    theirs = qemu_img("compare", *grown, check=False)
    ours = qcowtui_process("compare", *grown)
    assert (ours.code, ours.stdout) == (theirs.returncode, theirs.stdout)
