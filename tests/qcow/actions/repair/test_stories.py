"""Stories S2 and S4, and the regressions beside them, with images damaged by poking and killing."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

import qcow
from qcow.actions.history import Undo
from qcow.actions.repair import RepairImage, diagnose
from qcow.edit.apply import apply, plan
from qcow.findings import Severity
from qcow.image.image import Image
from tests.support.edited import assert_sound, contents, info
from tests.support.poking import (
    COPIED,
    OFFSETS,
    count_place,
    l1_entry,
    l2_entry,
    leaks_and_errors,
    make,
    poke,
    set_word,
    word,
)
from tests.support.qemu import create_encrypted, qemu_img, qemu_io, secret_object

from .healing import assert_healed, digest, golden, offered, repair

pytestmark = pytest.mark.oracle
_VARIANTS = ("", "cluster_size=512", "cluster_size=2M", "extended_l2=on", "refcount_bits=64")


def test_story_s2(tmp_path: Path) -> None:
    image = golden(tmp_path / "image.qcow2", snapshots=False)
    wanted, sector = contents(image), image.read_bytes()[:512]
    free = word(image, l2_entry(image, 0, 3)) & OFFSETS
    poke(image, count_place(image, free >> 16), b"\0\0")
    plain = l2_entry(image, 0, 5)
    set_word(image, plain, word(image, plain) & ~COPIED)
    twice = word(image, l2_entry(image, 0, 7)) & OFFSETS
    poke(image, count_place(image, twice >> 16), b"\0\2")
    leaks, errors = leaks_and_errors(image)
    assert (leaks > 0, errors > 0) == (True, True)
    assert qemu_img("check", "-r", "leaks", image, check=False).returncode != 0
    before, length = digest(image), image.stat().st_size
    with qcow.open(image) as opened:
        assert isinstance(opened, Image)
        case, _ = diagnose(opened)
        causes = {f.code for f in case.checked.findings if f.severity >= Severity.LEAK}
        assert len(causes) == 3
        planned = plan(RepairImage(), opened)
    assert planned.written_ranges
    assert digest(image) == before
    apply(os.fspath(image), [RepairImage()])
    assert_sound(image)
    assert contents(image) == wanted
    apply(os.fspath(image), [Undo()])
    assert image.read_bytes()[:512] == sector
    assert digest(image, length) == before


def test_story_s4(tmp_path: Path) -> None:
    image = make(tmp_path / "image.qcow2", "64M", options="lazy_refcounts=on")
    killed = subprocess.Popen(
        ["qemu-io", "-c", "write -P 0x5a 0 4M", "-c", "flush", "-c", "sleep 60000", image],
        stdout=subprocess.DEVNULL,
    )
    until = time.monotonic() + 30
    while image.stat().st_size < 4 << 20 and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.5)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before = digest(image)
    assert info(image)["dirty-flag"]
    with qcow.open(image) as opened:
        assert isinstance(opened, Image)
        _, remedies = diagnose(opened)
        (remedy,) = remedies
        explained = [problem.kind for problem in opened.problems if problem.code == "QCOW-DIRTY"]
    assert "rebuil" in explained[0].next_step.lower()
    assert (remedy.id, remedy.default, remedy.options[0].loses) == ("refcounts", "rebuild", "")
    assert digest(image) == before
    repair(image)
    assert_sound(image)
    assert not info(image)["dirty-flag"]
    qemu_io(image, "read -P 0x5a 0 4M")


@pytest.mark.parametrize("options", _VARIANTS)
def test_a_misaligned_l1_entry_loses_nothing(tmp_path: Path, options: str) -> None:
    image = golden(tmp_path / "image.qcow2", options, snapshots=False)
    wanted = contents(image)
    at = l1_entry(image, 0)
    set_word(image, at, word(image, at) + (512 if options != "cluster_size=512" else 256))
    if options == "cluster_size=512":
        # Offsets have no bits below 512: there, these bits are reserved ones.
        assert leaks_and_errors(image)[1]
    assert_healed(image, wanted)


@pytest.mark.parametrize("options", [*_VARIANTS, "refcount_bits=1", "compression_type=zstd"])
def test_refcounts_flags_and_marks_in_every_variant(tmp_path: Path, options: str) -> None:
    image = golden(tmp_path / "image.qcow2", options, snapshots=options != "refcount_bits=1")
    qemu_io(image, "write -c -P 9 20M 2M")
    wanted = contents(image)
    set_word(image, word(image, 48), 0)  # the first refcount block is gone
    poke(image, 79, bytes((image.read_bytes()[79] | 2,)))  # and the image is marked corrupt
    assert_healed(image, wanted)


def test_a_zero_flag_in_version_2(tmp_path: Path) -> None:
    image = golden(tmp_path / "image.qcow2", "compat=0.10", snapshots=False)
    wanted = contents(image)
    at = l2_entry(image, 0, 4)
    set_word(image, at, word(image, at) | 1)
    assert offered(image)["l2-zero-flag"] == "clear"
    assert_healed(image, wanted)


def test_without_the_key_of_an_encrypted_image(tmp_path: Path) -> None:
    image = tmp_path / "image.qcow2"
    kind, secret = secret_object()
    create_encrypted(image, "16M")
    opened = ("--image-opts", f"driver=qcow2,encrypt.key-secret=sec0,file.filename={image}")
    subprocess.run(
        ["qemu-io", kind, secret, "-c", "write -P 7 0 1M", *opened], check=True, capture_output=True
    )
    poke(image, count_place(image, 2), b"\0\0")
    set_word(image, l2_entry(image, 0, 1), word(image, l2_entry(image, 0, 1)) & ~COPIED)
    repair(image)
    checked = subprocess.run(
        ["qemu-img", "check", kind, secret, *opened], check=False, capture_output=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    read = subprocess.run(
        ["qemu-io", kind, secret, "-c", "read -P 7 0 1M", *opened], check=True, capture_output=True
    )
    assert b"failed" not in read.stdout
