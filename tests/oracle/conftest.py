"""Images on demand: each is built once, by whichever test worker needs it first."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.oracle.catalogue.base import Variant
from tests.oracle.variants import VARIANTS

#: Opens the image of a variant; the same file for every test of the run, never to be written.
ImageOf = Callable[[Variant], Path]
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


@pytest.fixture(scope="session")
def variant_image(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> ImageOf:
    """``variant_image(variant)`` is the path of that variant's image.

    The workers of one run share a folder without a lock: each builds in a folder of its own and
    renames it into place; who comes second throws its copy away.
    """
    own = tmp_path_factory.mktemp("building")
    base = tmp_path_factory.getbasetemp()
    is_worker = hasattr(request.config, "workerinput")
    shared = (base.parent if is_worker else base) / "variants"
    shared.mkdir(exist_ok=True)
    known: dict[str, Path] = {}

    def image(variant: Variant) -> Path:
        if variant.name in known:
            return known[variant.name]
        place = shared / variant.name
        pointer = place / "image-is"
        if not pointer.exists():
            folder = own / variant.name
            folder.mkdir()
            relative = variant.build(folder).relative_to(folder)
            (folder / "image-is").write_text(str(relative))
            _settle(folder)
            try:
                folder.rename(place)
            except OSError:  # another worker was faster
                shutil.rmtree(folder)
        known[variant.name] = place / pointer.read_text()
        return known[variant.name]

    return image


@pytest.fixture
def variant(request: pytest.FixtureRequest) -> Variant:
    """The variant a test is parametrised with (see :func:`tests.oracle.variants.each`)."""
    given: Variant = request.param
    return given


@pytest.fixture
def image(variant: Variant, variant_image: ImageOf, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The image of ``variant``, its folder the current one (QEMU looks there for data files)."""
    path = variant_image(variant)
    monkeypatch.chdir(path.parent)
    return path


@pytest.fixture
def by_name(variant_image: ImageOf, monkeypatch: pytest.MonkeyPatch) -> ByName:
    """``by_name("written")`` is the image of that variant; its folder becomes the current one."""
    known = {variant.name: variant for variant in VARIANTS}

    def image(name: str) -> Path:
        path = variant_image(known[name])
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
