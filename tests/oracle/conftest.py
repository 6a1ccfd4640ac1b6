"""Images on demand."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.oracle.catalogue.base import Variant
from tests.oracle.variants import VARIANTS
from tests.support.shared import once

ByName = Callable[[str], Path]


def _settle(folder: Path) -> None:
    """Push a new image out: block counts and holes of a file change while it is being flushed."""
    for path in folder.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def image_of(variant: Variant) -> Path:
    """The image of a variant; the same file for every test of the run, never to be written."""

    def make(folder: Path) -> None:
        (folder / "image-is").write_text(str(variant.build(folder).relative_to(folder)))
        _settle(folder)

    place = once(f"variant-{variant.name}", make)
    return place / (place / "image-is").read_text()


@pytest.fixture
def variant(request: pytest.FixtureRequest) -> Variant:
    """The variant a test is parametrised with (see :func:`tests.oracle.variants.each`)."""
    given: Variant = request.param
    return given


@pytest.fixture
def image(variant: Variant, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The image of ``variant``, its folder the current one (QEMU looks there for data files)."""
    path = image_of(variant)
    monkeypatch.chdir(path.parent)
    return path


@pytest.fixture
def by_name(monkeypatch: pytest.MonkeyPatch) -> ByName:
    """``by_name("written")`` is the image of that variant; its folder becomes the current one."""
    known = {variant.name: variant for variant in VARIANTS}

    def image(name: str) -> Path:
        path = image_of(known[name])
        monkeypatch.chdir(path.parent)
        return path

    return image


@pytest.fixture(autouse=True)
def _fixed_time_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Dates are shown in local time: one that no machine that runs the tests is likely to be in."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kathmandu")
        time.tzset()
        yield
    time.tzset()
