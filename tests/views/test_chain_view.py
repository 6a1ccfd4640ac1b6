"""The chain in rows: what serves what, and why a file is not read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from qcow.storage.gate import Gate
from qcowtui.samples.builder import ImageBuilder
from qcowtui.views.chain_view import ChainRow, RowKind, chain_view, dependents_words, row_details
from qcowtui.views.session import Session
from qcowtui.views.tones import Tone
from qcowtui.views.units import size
from qcowtui.views.work import CHAIN, DEPENDENTS

from ..support.images import pattern
from ..support.qemu import qemu_img
from .opened import opened

SIZE = 65536
DISK = 4 << 20


def base(folder: Path, clusters: int = 20) -> Path:
    builder = ImageBuilder(virtual_size=DISK)
    for number in range(clusters):
        builder.data(number, pattern(number, SIZE))
    return builder.write(folder / "base.qcow2")


def overlay(
    folder: Path,
    name: str = "top.qcow2",
    below: bytes | str = "base.qcow2",
    fmt: str | None = "qcow2",
    first: int = 15,
) -> Path:
    builder = ImageBuilder(virtual_size=DISK)
    builder.backing(below, fmt)
    for number in range(first, first + 10):
        builder.data(number, pattern(500 + number, SIZE))
    return builder.write(folder / name)


def layers(session: Session) -> list[ChainRow]:
    return [row for row in chain_view(session).rows if row.kind is RowKind.LAYER]


def test_each_layer_serves_its_part(tmp_path: Path) -> None:
    base(tmp_path)
    top = overlay(tmp_path)
    with opened(top, CHAIN, gate=Gate.follow()) as session:
        view = chain_view(session)
        over, under = layers(session)
        assert (over.served, under.served) == (10 * SIZE, 15 * SIZE)
        assert (over.served_before, under.served_before) == (0, 10 * SIZE)
        assert under.hidden == 5 * SIZE
        assert view.served_total == 25 * SIZE
        rest = DISK - 25 * SIZE
        assert [row.name for row in view.rows] == [
            "top.qcow2",
            "base.qcow2",
            f"{size(rest)} in no layer",
        ]
        assert view.note == "2 layers, all readable"
        assert not view.grantable
        assert "60.0 % of what is stored" in dict(row_details(under, view))["serves"]
        assert "320 KiB more are here" in dict(row_details(under, view))["serves"]


def test_before_and_without_following(tmp_path: Path) -> None:
    base(tmp_path)
    top = overlay(tmp_path)
    with opened(top) as session:
        early = chain_view(session)
        assert [row.status for row in early.rows] == ["", "not opened: press f"]
        assert early.grantable
    with opened(top, CHAIN) as session:
        view = chain_view(session)
        over, under = layers(session)
        assert over.served == 10 * SIZE
        assert under.served is None
        assert under.needed == DISK - 10 * SIZE
        assert (under.status, under.tone) == ("not opened: press f", Tone.NOTE)
        assert view.served_total == 10 * SIZE
        assert view.note == "backing file not opened: press f"
        assert view.grantable
        # Shares would be a guess while a layer is closed.
        assert dict(row_details(over, view))["serves"] == "640 KiB of the disk"
        assert all(row.kind is not RowKind.UNSERVED for row in view.rows)


def test_the_key_is_the_one_in_use(tmp_path: Path) -> None:
    base(tmp_path)
    with opened(overlay(tmp_path), CHAIN) as session:
        assert layers(session)[1].status == "not opened: press f"
        assert chain_view(session, "F7").rows[1].status == "not opened: press F7"


@pytest.mark.parametrize(
    ("name", "fmt", "words", "tone", "grantable"),
    [
        ("gone.qcow2", "qcow2", "not found", Tone.BAD, False),
        ("top.qcow2", "qcow2", "runs in a circle", Tone.BAD, False),
        ("noise", "qcow2", "not the stated format", Tone.BAD, False),
        ("base.qcow2", "vmdk", "format not read here", Tone.BAD, False),
        ("nbd://host/disk", "raw", "never opened", Tone.WARNING, False),
        ("a\nb", "raw", "never opened", Tone.WARNING, False),
    ],
)
def test_why_a_layer_is_absent(
    tmp_path: Path, name: str, fmt: str, words: str, tone: Tone, grantable: bool
) -> None:
    base(tmp_path)
    (tmp_path / "noise").write_bytes(b"nothing a program would write" * 100)
    top = overlay(tmp_path, below=name, fmt=fmt)
    with opened(top, CHAIN, gate=Gate.follow()) as session:
        row = layers(session)[1]
        assert (row.status, row.tone, row.grantable) == (words, tone, grantable)
        assert row.reason
        assert all(text.isprintable() for text in (row.name, row.path, row.reason))
        assert not chain_view(session).grantable


def test_trusted_folders_and_what_lies_outside(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    base(tmp_path)
    top = overlay(inside, below="../base.qcow2")
    with opened(top, CHAIN, gate=Gate.trusting([inside])) as session:
        row = layers(session)[1]
        assert (row.status, row.grantable) == ("not opened: press f", True)
        assert row.reason.startswith("It lies outside the folders you trust.")
        assert "Careful" in row.reason
    with opened(top, CHAIN, gate=Gate.trusting([tmp_path])) as session:
        assert layers(session)[1].status == ""


def test_names_are_shown_as_stated(tmp_path: Path) -> None:
    hostile = "/etc/\x1b[31m[@click=app.quit]\u202e"
    with opened(overlay(tmp_path, below="/etc/shadow", fmt="raw"), CHAIN) as session:
        assert layers(session)[1].name == "/etc/shadow"
    with opened(overlay(tmp_path, "b.qcow2", below=hostile.encode()), CHAIN) as session:
        view = chain_view(session)
        for row in view.rows:
            texts = [row.name, row.path, row.format, row.status, row.reason, view.note]
            texts += sum(row_details(row, view), ())
            assert all(text.isprintable() for text in texts)
        assert "\\x1b[31m[@click=app.quit]" in view.rows[1].name


def test_an_image_alone(tmp_path: Path) -> None:
    with opened(base(tmp_path), CHAIN) as session:
        view = chain_view(session)
        assert view.note == "no backing file"
        assert [row.kind for row in view.rows] == [RowKind.LAYER, RowKind.UNSERVED]


def test_a_raw_base_and_a_missing_format(tmp_path: Path) -> None:
    raw = tmp_path / "base.raw"
    raw.write_bytes(b"r" * DISK)
    top = overlay(tmp_path, below="base.raw", fmt=None)
    with opened(top) as session:
        assert chain_view(session).rows[1].format == "format not stated"
    with opened(top, CHAIN, gate=Gate.follow()) as session:
        row = layers(session)[1]
        assert (row.format, row.served) == ("raw", DISK - 10 * SIZE)


def test_external_data_file(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "data_file=a.raw", path, "1M", cwd=tmp_path)
    with opened(path, CHAIN) as session:
        row = chain_view(session).rows[1]
        assert (row.kind, row.status) == (RowKind.DATA_FILE, "not opened: press f")
    with opened(path, CHAIN, gate=Gate.follow()) as session:
        assert chain_view(session).rows[1].status == ""


def test_dependents_come_first(tmp_path: Path) -> None:
    path = base(tmp_path)
    overlay(tmp_path, "a.qcow2")
    overlay(tmp_path, "b.qcow2", below="a.qcow2")
    shutil.copy(tmp_path / "a.qcow2", tmp_path / "c.qcow2")
    with opened(path, CHAIN) as session:
        assert dependents_words(session).startswith("This folder was not searched")
    with opened(path, CHAIN, DEPENDENTS) as session:
        rows = [row for row in chain_view(session).rows if row.kind is RowKind.DEPENDENT]
        assert [row.name for row in rows] == ["a.qcow2", "c.qcow2", "b.qcow2"]
        assert "change here changes" in rows[0].reason
        assert "through" in rows[2].reason
        assert dependents_words(session).startswith("3 images in this folder build on this one")
    with opened(tmp_path / "b.qcow2", DEPENDENTS) as session:
        assert dependents_words(session).startswith("No image in this folder")
