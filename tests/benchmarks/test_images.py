"""Every image that is measured, small: qemu-img finds in it what the recipe says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.images.damage import PLACES
from benchmarks.images.recipes import RECIPES
from tests.support.qemu import qemu_img

pytestmark = pytest.mark.oracle

#: How many times smaller than what is measured.
SCALE = {"clusters-4k-256g": 256, "random-1t": 256, "sparse-64t": 512}
SNAPSHOTS = 20


@pytest.fixture
def small(name: str, tmp_path: Path) -> Path:
    path = tmp_path / "small.qcow2"
    RECIPES[name].make(path, SCALE.get(name, 64))
    return path


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"damaged-1t", "leaked-64g"}))
def test_it_is_sound_and_as_full_as_meant(name: str, small: Path) -> None:
    done = qemu_img("check", "--output=json", small, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    found = json.loads(done.stdout)
    full = found["allocated-clusters"] / found["total-clusters"]
    assert full == pytest.approx(0.25 if name == "sparse-64t" else 1.0, abs=0.01)
    # qemu-io does not fill up the last cluster of a file.
    assert 0 <= found["image-end-offset"] - small.stat().st_size < 65536
    fragmented = found.get("fragmented-clusters", 0) / found["allocated-clusters"]
    assert (fragmented > 0.9) == name.startswith("random")


@pytest.mark.parametrize("name", ["damaged-1t"])
def test_the_damage_is_there(name: str, small: Path) -> None:
    done = qemu_img("check", "--output=json", small, check=False)
    found = json.loads(done.stdout)
    assert done.returncode == 2
    # A lost L2 table leaks itself and its 8192 clusters; a count of zero is two errors.
    assert found["leaks"] == PLACES + 8193
    assert found["corruptions"] == 4 * PLACES


@pytest.mark.parametrize("name", ["leaked-64g"])
def test_everything_is_leaked(name: str, small: Path) -> None:
    done = qemu_img("check", "--output=json", small, check=False)
    found = json.loads(done.stdout)
    assert done.returncode == 3
    assert found["leaks"] == 2 * 8193  # 1 GiB: two tables
    assert found.get("allocated-clusters", 0) == 0


@pytest.mark.parametrize("name", ["snapshots-20"])
def test_the_snapshots_are_there(name: str, small: Path) -> None:
    info = json.loads(qemu_img("info", "--output=json", small).stdout)
    assert len(info["snapshots"]) == SNAPSHOTS


@pytest.mark.parametrize("name", ["random-256g"])
def test_it_is_the_same_every_time(name: str, small: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.qcow2"
    RECIPES[name].make(again, 64)
    assert qemu_img("compare", "-s", small, again).returncode == 0
    first = qemu_img("map", "--output=json", small).stdout
    assert qemu_img("map", "--output=json", again).stdout == first
