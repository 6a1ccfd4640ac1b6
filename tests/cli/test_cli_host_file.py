"""``space``, ``clusters`` and ``fragmentation``: what the file is made of."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from qcowtui.samples.builder import ImageBuilder
from qcowtui.samples.damage import leak_clusters, lower_refcounts
from tests.cli.asking import CLUSTER, as_json, as_text
from tests.support.cli import qcowtui
from tests.support.images import small_builder


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Two snapshots: cluster 0 is in both and active, 1 in ``one`` alone, 2 only active."""
    builder = ImageBuilder(virtual_size=64 * CLUSTER)
    builder.data(0, b"all")
    builder.data(1, b"one")
    builder.snapshot("one", date=1_750_000_000)
    builder.forget(1)
    builder.snapshot("two", date=1_750_000_100)
    builder.data(2, b"active")
    return builder.write(tmp_path / "shared.qcow2")


def test_space_in_bytes(shared: Path) -> None:
    found = as_json("space", shared)
    assert found["virtual-size"] == 64 * CLUSTER
    assert found["file-length"] == shared.stat().st_size
    assert sum(found["by-class"].values()) == found["file-length"]
    assert sum(found["reclaimable-parts"].values()) == found["reclaimable"]
    one, two = found["snapshots"]
    assert (one["id"], one["name"], two["id"], two["name"]) == ("1", "one", "2", "two")
    # L1 and L2 table each, and the data cluster it holds alone
    assert one["exclusive"] == 3 * CLUSTER
    assert two["exclusive"] == 2 * CLUSTER
    assert found["active"]["exclusive"] == 3 * CLUSTER
    assert one["frees"] == one["exclusive"]


def test_space_of_several_together(shared: Path) -> None:
    alone = as_json("space", "--together=one", shared)["together"]
    assert alone == {"snapshots": ["1"], "frees": 3 * CLUSTER}
    both = as_json("space", "--together=two", "--together=1", shared)["together"]
    # cluster 0 stays with the active state; the snapshot table goes with the last snapshot
    assert both == {"snapshots": ["1", "2"], "frees": (3 + 2 + 1) * CLUSTER}
    assert "Deleting 1, 2 together frees 384 KiB (393,216 bytes)." in as_text(
        "space", "--together=1", "--together=2", shared
    )


def test_space_knows_the_snapshots_it_is_asked_about(shared: Path) -> None:
    ended = qcowtui("space", "--together=three", shared)
    assert ended.code == 1
    assert b'no snapshot "three"' in ended.stderr


def test_space_for_a_person(shared: Path) -> None:
    said = as_text("space", shared)
    assert "Virtual size    4 MiB (4,194,304 bytes)" in said
    assert "\n1 one " in said
    assert "\nactive " in said


def test_clusters_cover_the_file_in_order(small: Path) -> None:
    found = as_json("clusters", small)
    assert found[0] == {
        "offset": 0,
        "length": CLUSTER,
        "class": "header",
        "refcount": 1,
        "references": 1,
    }
    at = 0
    for run in found:
        assert run["offset"] == at
        assert run["length"] > 0
        at += run["length"]
    assert at == -(-small.stat().st_size // CLUSTER) * CLUSTER
    used = {run["class"] for run in found}
    assert {"l1", "l2", "data", "compressed", "shared", "snapshot-table"} <= used
    assert all(run["refcount"] == run["references"] for run in found)
    alike = ("class", "refcount", "references")
    assert all([a[k] for k in alike] != [b[k] for k in alike] for a, b in pairwise(found))
    assert len(as_text("clusters", small).splitlines()) == len(found) + 1


def test_clusters_shows_where_counts_and_references_differ(tmp_path: Path) -> None:
    image = small_builder(snapshot=False).build()
    leaked = leak_clusters(image, 2)
    lower_refcounts(image, [3])
    path = image.save(tmp_path / "damaged.qcow2")
    wrong = [run for run in as_json("clusters", path) if run["refcount"] != run["references"]]
    assert {run["class"] for run in wrong} == {"leaked", "corrupt"}
    assert sum(run["length"] for run in wrong if run["class"] == "leaked") == 2 * CLUSTER
    assert leaked is not None


def test_fragmentation_counts_runs(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=64 * CLUSTER)
    for guest in (3, 2, 1, 0):
        builder.data(guest, b"x")
    image = builder.write(tmp_path / "backwards.qcow2")
    found = as_json("fragmentation", image)
    assert (found["runs"], found["jumps-back"], found["allocated-clusters"]) == (4, 3, 4)
    assert found["mean-run"] == CLUSTER
    assert sum(region["breaks"] for region in found["regions"]) == 4
    assert found["l2-cache"]["default-suffices"] is True
    check = json.loads(qcowtui("check", "--output=json", image).stdout)
    assert found["fragmented-clusters"] == check["fragmented-clusters"]
    assert "4 runs of 64 KiB on average, 3 jumps back" in as_text("fragmentation", image)


def test_fragmentation_gives_the_option_that_helps(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 40)
    image = builder.write(tmp_path / "large.qcow2")
    said = as_text("fragmentation", image)
    assert "128 MiB cover the whole disk; QEMU takes 32 MiB, which cover 256 GiB" in said
    assert f"file.filename={image},l2-cache-size={128 << 20}" in said
