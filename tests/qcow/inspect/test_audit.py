"""Audit of images from somebody else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import qcow
from qcow.errors import LockedError, StorageError, UnsupportedFormat
from qcow.inspect.audit import AuditPolicy, AuditReport, audit, audit_image
from qcow.storage.locks import LockMode
from qcowtui.samples.builder import ImageBuilder
from tests.hostile.bases import Bases, make_bases
from tests.hostile.corpus import ROWS
from tests.oracle.catalogue.base import Variant, create, overlay, written
from tests.oracle.variants import VARIANTS
from tests.support.images import patch, sha256, small_image
from tests.support.live import nbd_server
from tests.support.opens import opened_files
from tests.support.qemu import create_encrypted, qemu_img

NAMES = (
    "format", "ambiguous-format", "header", "unknown-features", "corrupt-mark", "virtual-size",
    "l1-table", "refcount-table", "snapshots", "bitmaps", "protocol-name", "self-reference",
    "backing-file", "data-file", "encryption", "key-derivation", "strings",
)  # fmt: skip


def _failed(report: AuditReport) -> list[str]:
    assert report.passed == (not report.failures)
    for check in report.checks:
        assert check.reason.endswith((".", ".)"))
        assert check.reason.isprintable()
    return [check.name for check in report.failures]


def _story_s12(folder: Path) -> dict[str, Path]:
    """As the story has it: five uploads that are traps, and a good one."""
    (folder / "secret.txt").write_bytes(b"TOP-SECRET\n" * 100)
    images = {name: folder / f"{name}.qcow2" for name in (
        "evil-backing", "evil-datafile", "evil-json", "evil-loop", "evil-l1", "good"
    )}  # fmt: skip
    overlay(images["evil-backing"], "secret.txt", "raw", "1M")
    qemu_img(
        "create", "-q", "-f", "qcow2", "-o", "data_file=df.raw,data_file_raw=on",
        images["evil-datafile"].name, "1M", cwd=folder,
    )  # fmt: skip
    written(images["good"], "4M")
    builder = ImageBuilder(virtual_size=1 << 20)
    builder.backing(b'json:{"driver":"raw","file":{"driver":"file","filename":"/etc/hostname"}}')
    builder.write(images["evil-json"])
    builder = ImageBuilder(virtual_size=1 << 20)
    builder.backing("evil-loop.qcow2")
    builder.write(images["evil-loop"])
    create(images["evil-l1"], "1M")
    patch(images["evil-l1"], 36, b"\x7f\xff\xff\xff")
    return images


@pytest.mark.oracle
def test_story_s12_uploads(tmp_path: Path) -> None:
    images = _story_s12(tmp_path)
    before = {path: sha256(path) for path in images.values()}
    verdicts = {}
    for name, path in images.items():
        with opened_files() as opened:
            start = time.process_time()
            verdicts[name] = _failed(audit(path))
            assert time.process_time() - start < 2
            assert opened.besides(path) == []
    assert verdicts == {
        "evil-backing": ["backing-file"],
        "evil-datafile": ["data-file"],
        "evil-json": ["protocol-name", "backing-file"],
        "evil-loop": ["self-reference", "backing-file"],
        "evil-l1": ["l1-table"],
        "good": [],
    }
    reasons = [audit(path).failures[0].reason for path in list(images.values())[:5]]
    assert len(set(reasons)) == 5
    assert {path: sha256(path) for path in images.values()} == before


@pytest.mark.oracle
def test_story_s12_is_light(tmp_path: Path) -> None:
    images = _story_s12(tmp_path)
    code = (
        "import re, sys\n"
        "from qcow.inspect.audit import audit\n"
        "print(*(audit(path).passed for path in sys.argv[1:]))\n"
        "print([name for name in ('numpy', 'rich', 'textual') if name in sys.modules])\n"
        # Not from getrusage: that remembers the process this one was forked from.
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *images.values()], capture_output=True, text=True, check=True
    )
    verdicts, loaded, peak = done.stdout.splitlines()
    assert verdicts == "False False False False False True"
    assert loaded == "[]"
    assert int(peak) < 200 << 10


@pytest.mark.oracle
@pytest.mark.parametrize(
    "variant",
    [v for v in VARIANTS if not v.tags & {"damaged", "encrypted", "huge"}][::3],
    ids=lambda variant: variant.name,
)
def test_what_qemu_makes_fails_only_for_what_it_has(variant: Variant, tmp_path: Path) -> None:
    path = variant.build(tmp_path)
    expected = set()
    with qcow.open(path) as image:
        if image.backing is not None:
            expected.add("backing-file")
    if "data-file" in variant.tags:
        expected.add("data-file")
    if "hostile" in variant.name:
        expected.add("strings")
    assert set(_failed(audit(path))) == expected


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    return make_bases(tmp_path_factory.mktemp("bases"), canary=9)


#: Damage in table entries, which are not read: a check finds it.
_FOR_A_CHECK = ("l1", "l2", "extl2", "comp", "ref")
#: A magic that is not there leaves a raw file; a size that is no whole sector is only odd.
_HARMLESS = {"H04", "H24", "H31", "H38", "X03", "S12", "B16", "B17", "B18"}
_REFUSED = [
    row
    for row in ROWS
    if row.expect != "ok" and row.id not in _HARMLESS and row.area not in _FOR_A_CHECK
]


@pytest.mark.oracle
def test_no_malformed_image_passes(bases: Bases, tmp_path: Path) -> None:
    assert len(_REFUSED) > 100
    passed = []
    for row in _REFUSED:
        folder = tmp_path / row.id
        folder.mkdir()
        report = audit(row.build(bases, folder))
        if not _failed(report):
            passed.append(row.id)
    assert passed == []


def test_the_list_of_checks_is_stable(tmp_path: Path) -> None:
    path = small_image(tmp_path)
    report = audit(path)
    assert tuple(check.name for check in report.checks) == NAMES
    assert (report.path, report.format, report.passed) == (str(path), "qcow2", True)
    with qcow.open(path) as image:
        assert audit_image(image) == report


def test_the_expected_format_counts(tmp_path: Path) -> None:
    image = small_image(tmp_path)
    raw = tmp_path / "disk.raw"
    raw.write_bytes(b"\xeb\x3c" + bytes(5000))
    vmdk = tmp_path / "disk.vmdk"
    vmdk.write_bytes(b"KDMV" + bytes(5000))
    empty = tmp_path / "empty"
    empty.touch()
    assert _failed(audit(image, AuditPolicy(format="qcow2"))) == []
    assert _failed(audit(raw)) == []
    assert [check.name for check in audit(raw).checks] == ["format", "virtual-size"]
    assert _failed(audit(raw, AuditPolicy(format="qcow2"))) == ["format"]
    assert _failed(audit(image, AuditPolicy(format="raw"))) == ["format"]
    report = audit(vmdk)
    assert (report.format, _failed(report)) == ("vmdk", ["format"])
    assert _failed(audit(empty)) == ["format"]
    with pytest.raises(UnsupportedFormat):
        audit(image, AuditPolicy(format="vmdk"))


def test_the_size_can_be_limited(tmp_path: Path) -> None:
    path = ImageBuilder(virtual_size=1 << 40).write(tmp_path / "disk")
    assert _failed(audit(path, AuditPolicy(max_virtual_size=1 << 40))) == []
    report = audit(path, AuditPolicy(max_virtual_size=(1 << 40) - 1))
    assert _failed(report) == ["virtual-size"]
    assert f"{1 << 40:,} bytes" in report.failures[0].reason


@pytest.mark.oracle
def test_encryption_is_told_and_can_be_refused(tmp_path: Path) -> None:
    path = tmp_path / "luks.qcow2"
    create_encrypted(path, "1M")
    report = audit(path)
    assert _failed(report) == []
    told = {check.name: check.reason for check in report.checks}
    assert "luks" in told["encryption"]
    assert _failed(audit(path, AuditPolicy(allow_encryption=False))) == ["encryption"]
    aes = tmp_path / "aes.qcow2"
    create_encrypted(aes, "1M", kind="aes")
    assert _failed(audit(aes)) == ["encryption"]


@pytest.mark.parametrize("name", ["hard", "./soft", "sub/../disk"])
def test_every_name_of_the_image_itself_is_recognised(name: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    builder = ImageBuilder(virtual_size=1 << 20)
    builder.backing(name)
    path = builder.write(tmp_path / "disk")
    os.link(path, tmp_path / "hard")
    (tmp_path / "soft").symlink_to("disk")
    assert _failed(audit(path)) == ["self-reference", "backing-file"]


def test_a_file_that_is_two_things(tmp_path: Path) -> None:
    table = bytes(440) + bytes(6) + b"\x80" + bytes(3) + b"\x83" + bytes(3)
    table += (2048).to_bytes(4, "little") + (4096).to_bytes(4, "little") + bytes(48) + b"\x55\xaa"
    for offset, mark in ((0x8001, b"CD001"), (512, b"EFI PART"), (446, table[446:])):
        path = small_image(tmp_path, "double", virtual_size=64 << 16)
        patch(path, offset, mark)
        assert "ambiguous-format" in _failed(audit(path))
        path.unlink()
    # Guest data may look like anything.
    builder = ImageBuilder(virtual_size=1 << 20, cluster_bits=12)
    builder.data(0, bytes(1) + b"CD001", at=8)
    assert _failed(audit(builder.write(tmp_path / "iso"))) == []


@pytest.mark.oracle
def test_what_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        audit(tmp_path / "nothing")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(StorageError, match="FIFO"):
        audit(tmp_path / "fifo")
    path = written(tmp_path / "live.qcow2", "2M")
    with nbd_server(path):
        with pytest.raises(LockedError):
            audit(path)
        assert _failed(audit(path, lock=LockMode.FORCE_SHARE)) == []
