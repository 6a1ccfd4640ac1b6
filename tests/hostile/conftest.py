"""Once per test process: the bases, and the canary that no one may wake."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .bases import Bases, make_bases
from .canary import Canary
from .observer import Observer


@pytest.fixture(scope="session")
def canary() -> Iterator[Canary]:
    with Canary() as listening:
        yield listening


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory, canary: Canary) -> Bases:
    """The healthy images; each xdist worker has its own folder, so they never meet."""
    return make_bases(tmp_path_factory.mktemp("bases"), canary.port)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder for one image, which is removed: the corpus is too big to be kept."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="session")
def observer(bases: Bases) -> Iterator[Observer]:
    with Observer(bases) as watching:
        yield watching
