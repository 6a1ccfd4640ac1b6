"""Images that several tests of this package look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.images import pattern, small_builder, small_image


@pytest.fixture(autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the histories of this test are kept: ``qcowtui`` in a folder of its own."""
    home = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bit of everything and one snapshot, ``first``; never to be written."""
    return small_image(tmp_path_factory.mktemp("small"))


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """``top.qcow2`` on ``base.qcow2`` in one folder, the format stated; cluster 1 is its own."""
    base = small_builder(snapshot=False)
    base.write(tmp_path / "base.qcow2")
    top = small_builder(snapshot=False)
    top.forget(0, top.geometry.clusters(top.model.virtual_size))
    top.data(1, pattern(77, top.geometry.cluster_size))
    top.backing("base.qcow2", "qcow2")
    return top.write(tmp_path / "top.qcow2")
