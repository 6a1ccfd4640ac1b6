"""What each state shares and owns alone, against what QEMU frees when snapshots are deleted."""

from __future__ import annotations

import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import qcow
from qcow.image.image import Image
from qcow.image.refcounts import refcount_windows
from qcow.inspect.ancestry import ancestry
from qcow.inspect.owners import scan_owners
from qcow.inspect.sharing import sharing
from qcow.inspect.space import frees_if_deleted, space
from qcowtui.samples.builder import ImageBuilder
from tests.support.qemu import qemu_img, qemu_io
from tests.support.stories import three_snapshots


def used_clusters(path: Path) -> int:
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        return sum(
            int(np.count_nonzero(window.counts))
            for window in refcount_windows(image)
            if window.counts is not None
        )


@pytest.mark.oracle
def test_story_s9_exclusive_sizes(tmp_path: Path) -> None:
    with qcow.open(three_snapshots(tmp_path)) as image:
        assert isinstance(image, Image)
        shares = sharing(image)
        assert [shares.exclusive(i) // 65536 for i in range(4)] == [82, 482, 162, 2]
        assert ancestry(image, shares).parents == (3, None, 1, 2)
        sizes = space(image, scan_owners(image), shares)
        assert sum(sizes.by_class.values()) == sizes.file_length == image.storage.size()


@pytest.mark.oracle
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-o", "cluster_size=4k"),
        ("-o", "cluster_size=512"),
        ("-o", "extended_l2=on"),
        ("-o", "compat=0.10"),
        ("-o", "refcount_bits=64"),
    ],
    ids=" ".join,
)
def test_every_selection_frees_what_qemu_frees(tmp_path: Path, options: tuple[str, ...]) -> None:
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", *options, path, "8M")
    for number, writes in enumerate(
        (["write -P 1 0 2M"], ["write -P 2 1M 2M", "write -c -P 8 4M 64k"], ["write -P 3 0 64k"])
    ):
        qemu_io(path, *writes)
        qemu_img("snapshot", "-c", f"s{number}", path)
    qemu_io(path, "write -P 4 6M 300k")
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        shares = sharing(image)
        size = shares.cluster_size
        for chosen in [c for n in (1, 2, 3) for c in combinations((1, 2, 3), n)]:
            copy = tmp_path / "copy.qcow2"
            shutil.copy(path, copy)
            for member in chosen:
                qemu_img("snapshot", "-d", f"s{member - 1}", copy)
            freed = used_clusters(path) - used_clusters(copy)
            assert frees_if_deleted(image, shares, chosen) == freed * size, chosen


def test_sharing_of_many_states_equals_the_builders_truth(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 20)
    states = []
    for number in range(24):  # more than 16 states: wide set ids
        builder.data(number % 7, bytes([number + 1]) * 512)
        states.append(builder.snapshot(f"s{number}", date=1_700_000_000 + number))
    builder.data(3, b"x" * 512)
    path = builder.write(tmp_path / "many.qcow2")
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        shares = sharing(image)
        for index, snapshot in enumerate(states):
            expected = builder.model.exclusive_clusters(snapshot)
            assert shares.exclusive(index + 1) == expected * shares.cluster_size
        assert shares.exclusive(0) == builder.model.exclusive_clusters() * shares.cluster_size
        parents = ancestry(image, shares).parents
        assert parents == (24, None, *range(1, 24))


@pytest.mark.oracle
def test_a_branch_hangs_where_it_was_reverted_to(tmp_path: Path) -> None:
    path = three_snapshots(tmp_path)
    qemu_img("snapshot", "-a", "clean-install", path)
    qemu_io(path, "write -P 7 200M 1M")
    qemu_img("snapshot", "-c", "test", path)
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        tree = ancestry(image, sharing(image))
        assert tree.parents == (4, None, 1, 2, 1)
        assert tree.children(1) == (2, 4)
        assert tree.children(4) == (0,)
