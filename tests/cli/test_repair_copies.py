"""``rescue`` and ``bundle`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli import qcowtui
from tests.support.images import guest_bytes, sha256, small_builder

from .test_repair import SIZE, lose_counts, misalign


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small_builder(cluster_bits=12).write(tmp_path / "disk.qcow2")


def test_rescue_of_a_sound_image(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.raw"
    done = qcowtui("rescue", "--raw", out, path)
    assert (done.code, done.stderr) == (0, b"")
    assert b"Everything was read" in done.stdout
    assert out.read_bytes() == guest_bytes(small_builder(cluster_bits=12).model)
    assert qcowtui("rescue", "--raw", out, path).code == 0
    (tmp_path / "out.raw.map").unlink()
    refused = qcowtui("rescue", "--raw", out, path)
    assert refused.code == 1
    assert b"no map of a rescue" in refused.stderr


def test_rescue_says_what_was_lost(path: Path, tmp_path: Path) -> None:
    misalign(path)
    before = sha256(path)
    done = qcowtui("rescue", "--raw", tmp_path / "out.raw", path)
    assert done.code == 2
    assert b"could not be read and are zeros" in done.stdout
    assert b"lost: 4 KiB at 0x3000" in done.stdout
    again = qcowtui("rescue", "--raw", tmp_path / "out.raw", "--output=json", path)
    said = json.loads(again.stdout)
    assert (again.code, said["lost"]) == (2, SIZE)
    assert said["lost-ranges"] == [{"start": 3 * SIZE, "length": SIZE}]
    assert said["resumed"] == said["read"] == said["size"] - SIZE
    assert b"0x00003000  0x00001000  -\n" in (tmp_path / "out.raw.map").read_bytes()
    assert sha256(path) == before


def test_rescue_needs_to_know_where_to(path: Path) -> None:
    done = qcowtui("rescue", path)
    assert done.code == 1
    assert b"--raw OUT" in done.stderr


def test_bundle(path: Path, tmp_path: Path) -> None:
    lose_counts(path)
    out = tmp_path / "report.qcow2"
    done = qcowtui("bundle", "--redact", path, out)
    assert (done.code, done.stderr) == (0, b"")
    assert b"finds the same in it" in done.stdout
    assert qcowtui("check", "-q", "--no-decode", out).code == 2
    assert b"first" not in out.read_bytes()
    again = qcowtui("bundle", path, out)
    assert again.code == 1
    assert b"--force" in again.stderr
    forced = qcowtui("bundle", "--force", "--output=json", path, out)
    said = json.loads(forced.stdout)
    assert (said["same-findings"], said["redacted"], said["withheld"]) == (True, False, 0)
    assert said["length"] == path.stat().st_size


def test_bundle_of_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(bytes(4096))
    done = qcowtui("bundle", tmp_path / "raw", tmp_path / "out")
    assert done.code == 1
    assert b"this question is about qcow2 images" in done.stderr
    assert not (tmp_path / "out").exists()
