"""The malformed table, row by row: what our engine makes of each image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import qcow
from qcow.errors import UnsupportedFormat
from qcow.findings import Severity
from qcow.text import safe
from tests.support.qemu import data_ranges, qemu_img

from .bases import NAMES, Bases
from .canary import Canary
from .corpus import GENERAL, ROWS
from .ext_area import stated_reference
from .model import Expect, Row
from .observer import Observer, Seen
from .probe import COUNTS

#: As much of a long name as a finding must show.
_SHOWN = 24


def _qemu_opens(row: Row) -> bool:
    """Whether QEMU opens the image, without talking to another file or machine."""
    return row.qemu_info == 0 and row.area not in ("string", "luks")


def _qemu_counts(row: Row) -> bool:
    """Whether QEMU comes to the end of a check without opening anything else."""
    return row.qemu_check in (0, 2, 3) and row.area != "string"


@pytest.mark.parametrize("name", NAMES)
def test_healthy(observer: Observer, bases: Bases, name: str) -> None:
    """The control: nothing is found where nothing is wrong."""
    image = bases.path(name)
    seen = observer.look(image)
    observer.assert_harmless(image, seen)
    assert seen.worst is Severity.INFO, seen.codes()


@pytest.mark.parametrize("row", [*ROWS, *GENERAL], ids=lambda row: row.id)
def test_row(row: Row, observer: Observer, bases: Bases, folder: Path, canary: Canary) -> None:
    calls = canary.calls
    image = row.build(bases, folder)
    before = _digest(image)
    seen = observer.look(image)
    observer.assert_harmless(image, seen)
    assert _digest(image) == before
    assert canary.calls == calls
    as_expected = _AS_EXPECTED[row.expect](seen)
    assert as_expected, f"{row.requirement}: {row.expect}, not {seen.codes()} {seen.failures}"
    if row.expect == "named":
        name = safe(stated_reference(image))[:_SHOWN]
        texts = [text for said in seen.problems for text in said.texts]
        assert any(name in text for text in texts), f"{name} is in none of {texts}"


_AS_EXPECTED: dict[Expect, Callable[[Seen], bool]] = {
    "error": lambda seen: seen.refused,
    "finding": lambda seen: seen.worst >= Severity.WARNING,
    "named": lambda seen: any(said.severity >= Severity.WARNING for said in seen.problems),
    "ok": lambda seen: seen.worst is Severity.INFO and not seen.refused,
}


def _built(number: str, bases: Bases, folder: Path) -> Path:
    return next(row for row in ROWS if row.id == number).build(bases, folder)


@pytest.mark.parametrize("number", ["H01", "H04"])
def test_no_format_is_raw(bases: Bases, folder: Path, number: str) -> None:
    """Without a stated format: what is not qcow2 is said to be raw, never passed off as qcow2."""
    with qcow.open(_built(number, bases, folder)) as opened:
        assert opened.format == "raw"


def test_qcow_version_1_is_named(bases: Bases, folder: Path) -> None:
    with pytest.raises(UnsupportedFormat, match=" qcow image"):
        qcow.open(_built("H06", bases, folder))


@pytest.mark.oracle
@pytest.mark.parametrize("row", [row for row in ROWS if _qemu_opens(row)], ids=lambda row: row.id)
def test_reads_are_those_of_qemu(row: Row, observer: Observer, bases: Bases, folder: Path) -> None:
    """What can be read from a damaged image is what QEMU reads; else it is an error."""
    image = row.build(bases, folder)
    seen = observer.look(image)
    copy = folder / "first.raw"
    names = (f"if={image.name}", f"of={copy.name}")
    done = qemu_img(
        *("dd", "-f", "qcow2", "-O", "raw", "bs=65536", "count=1"), *names, check=False, cwd=folder
    )
    if row.area == "comp":
        assert (seen.read is not None) == (done.returncode == 0)
    if seen.read is not None and done.returncode == 0:
        assert seen.read == hashlib.sha256(copy.read_bytes()).hexdigest()


@pytest.mark.oracle
@pytest.mark.parametrize(
    "row", [row for row in (*ROWS, *GENERAL) if _qemu_counts(row)], ids=lambda row: row.id
)
def test_counts_are_those_of_qemu(row: Row, observer: Observer, bases: Bases, folder: Path) -> None:
    """Where no structure is given up, every number is qemu-img's.

    Where one is, QEMU goes on with what it took for the structure; its numbers say nothing then.
    """
    image = row.build(bases, folder)
    seen = observer.look(image)
    options = ("--output=json", "-f", "qcow2")
    done = qemu_img("check", *options, image.name, check=False, cwd=folder)
    counted = json.loads(done.stdout)
    if not seen.refused:
        assert seen.counts == {name: counted.get(name, 0) for name in COUNTS}
    else:
        assert seen.counts["check-errors"] > 0


@pytest.mark.parametrize("length", [0, 100, 0x1F000, 0x30004, 0x4FFFF])
@pytest.mark.parametrize("name", ["v3", "zlib", "snapshots"])
def test_file_shrinks_while_open(
    observer: Observer, bases: Bases, folder: Path, name: str, length: int
) -> None:
    """G8: what was there a moment ago is gone: an error or a finding, never a fault."""
    image = folder / "image.qcow2"
    image.write_bytes(bases.path(name).read_bytes())
    assert image.stat().st_size > length
    observer.assert_harmless(image, observer.look(image, cut=length))


def _digest(image: Path) -> bytes:
    """SHA-256 of what a file holds; of nothing where no file can be reached."""
    digest = hashlib.sha256()
    try:
        with image.open("rb") as file:
            for start, length in data_ranges(image):
                file.seek(start)
                digest.update(b"%d:" % start + file.read(length))
    except OSError:
        return b""
    return digest.digest()
