"""Malicious references, followed: with the caution of reading, and with the explicit grant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .bases import Bases
from .canary import Canary
from .corpus import GENERAL, ROWS
from .ext_area import BACKING_FORMAT, backing
from .model import on
from .observer import Observer

_OK, _REFUSED, _MISSING, _CYCLIC = "ok", "refused", "missing", "cyclic"
_WRONG, _UNSUPPORTED, _TOO_DEEP = "wrong format", "unsupported format", "too deep"

#: How the lowest layer fares when files in the image's folder are followed, and with --follow.
_BACKING = {
    "X05": (_OK, _OK),
    "X07": (_UNSUPPORTED, _UNSUPPORTED),
    "N07": (_REFUSED, _WRONG),
    "N08": (_REFUSED, _WRONG),
    "N09": (_REFUSED, _REFUSED),
    "N10": (_REFUSED, _REFUSED),
    "N11": (_REFUSED, _REFUSED),
    "N12": (_REFUSED, _REFUSED),
    "N14": (_REFUSED, _REFUSED),
    "N15": (_REFUSED, _REFUSED),
    "N17": (_REFUSED, _REFUSED),
    "N18": (_MISSING, _MISSING),
    "N19": (_MISSING, _MISSING),
    "N20": (_MISSING, _MISSING),
    "N21": (_CYCLIC, _CYCLIC),
    "N22": (_REFUSED, _REFUSED),
    "N23": (_MISSING, _MISSING),
    "N24": (_MISSING, _MISSING),
    "N25": (_MISSING, _MISSING),
    "G1-2": (_CYCLIC, _CYCLIC),
    "G1-3": (_CYCLIC, _CYCLIC),
    "G2": (_TOO_DEEP, _OK),
    "G3-larger": (_OK, _OK),
    "G3-smaller": (_OK, _OK),
    "G4-backing": (_MISSING, _MISSING),
    "G5": (_CYCLIC, _CYCLIC),
    "G7-case": (_MISSING, _MISSING),
    "G7-slash": (_MISSING, _MISSING),
}
_DATA_FILE = {
    "N30": (_REFUSED, _MISSING),
    "N31": (_REFUSED, _REFUSED),
}
_OWN = {"base.qcow2", "disk.raw", "image.qcow2", "twin.qcow2"}
_OWN |= {f"layer{number}.qcow2" for number in range(1, 201)}
_BUILDS = {row.id: row.build for row in (*ROWS, *GENERAL)}


@pytest.mark.parametrize("number", _BACKING)
def test_backing(
    number: str, observer: Observer, bases: Bases, folder: Path, canary: Canary
) -> None:
    calls = canary.calls
    image = _BUILDS[number](bases, folder)
    careful = observer.follow(image, "own_folder")
    observer.assert_harmless(image, careful, beside=_OWN)
    granted = observer.follow(image, "follow")
    observer.assert_harmless(image, granted, beside=_OWN | {"passwd"})
    assert (careful.layers[-1], granted.layers[-1]) == _BACKING[number]
    assert canary.calls == calls


def test_fifo_with_a_plain_name(observer: Observer, bases: Bases, folder: Path) -> None:
    """Beside the image and with a stated format, but opening it would never return."""
    os.mkfifo(folder / "fifo")
    image = on("backing", backing(b"fifo", (BACKING_FORMAT, b"raw")))(bases, folder)
    for policy in ("own_folder", "follow"):
        seen = observer.follow(image, policy)
        observer.assert_harmless(image, seen)
        assert seen.layers[-1] == _REFUSED


@pytest.mark.parametrize("number", _DATA_FILE)
def test_data_file(number: str, observer: Observer, bases: Bases, folder: Path) -> None:
    image = _BUILDS[number](bases, folder)
    seen = [observer.follow(image, policy) for policy in ("own_folder", "follow")]
    for each in seen:
        observer.assert_harmless(image, each)
    assert tuple(each.data_file for each in seen) == _DATA_FILE[number]
