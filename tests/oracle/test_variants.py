"""The images themselves: what QEMU says about each is what its recipe was after."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.oracle.catalogue.base import Variant
from tests.oracle.variants import VARIANTS, each
from tests.support.qemu import parsed, qemu_img, with_key

pytestmark = pytest.mark.oracle

#: What ``qemu-img check`` ends with, where that is not 0.
CHECK_ENDS_WITH = {
    "lazy-dirty": 2,
    "lazy-dirty-small-clusters": 2,
    "damaged-leaks": 3,
    "damaged-lost-l2": 3,
    "damaged-refcount-too-low": 2,
    "damaged-refcount-too-high": 2,
    "damaged-copied-flag": 2,
    "damaged-overlap": 2,
    "damaged-truncated": 2,
    "damaged-reserved-bits": 2,
    "damaged-unaligned-data": 2,
}


def test_there_are_enough_with_names_of_their_own() -> None:
    names = [variant.name for variant in VARIANTS]
    assert len(names) >= 64
    assert len(set(names)) == len(names)


@each()
def test_qemu_img_checks_it_as_meant(variant: Variant, image: Path) -> None:
    key = next((kind for kind in ("luks", "aes") if kind in variant.tags), None)
    where = with_key(image, key) if key else (image,)
    done = qemu_img("check", *where, check=False)
    assert done.returncode == CHECK_ENDS_WITH.get(variant.name, 0), done.stderr


@each()
def test_its_tags_are_true(variant: Variant, image: Path) -> None:
    info = dict(parsed(qemu_img("info", "--output=json", image).stdout))
    specific = dict(dict(info["format-specific"])["data"])
    tags = variant.tags
    assert info["format"] == "qcow2"
    assert ("v2" in tags) == (specific["compat"] == "0.10")
    assert ("data-file" in tags) == ("data-file" in specific)
    assert ("extended-l2" in tags) == specific.get("extended-l2", False)
    assert ("bitmaps" in tags) == ("bitmaps" in specific)
    assert ("encrypted" in tags) == info.get("encrypted", False)
    assert ("dirty" in tags) == info["dirty-flag"]
    emptied = {"backing-rebased-away", "snapshots-all-deleted"}
    assert ("backing" in tags and variant.name not in emptied) == ("backing-filename" in info)
    assert ("snapshots" in tags and variant.name not in emptied) == ("snapshots" in info)
