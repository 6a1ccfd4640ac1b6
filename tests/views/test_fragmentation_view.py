"""Scatter in words, with QEMU's own numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qcowtui.samples.builder import ImageBuilder
from qcowtui.views.fragmentation_view import RegionRow, fragmentation_view, hottest, region_words
from qcowtui.views.session import Part
from qcowtui.views.tones import Tone
from qcowtui.views.work import FRAGMENTATION

from ..support.images import pattern
from ..support.qemu import qemu_img
from .opened import opened

SIZE = 65536


def scattered(order: list[int], disk: int = 64 << 20) -> ImageBuilder:
    builder = ImageBuilder(virtual_size=disk)
    for number in order:
        builder.data(number, pattern(number, SIZE))
    return builder


def row(heat: float | None, start: int = 0) -> RegionRow:
    return RegionRow(start, 10, 0 if heat is None else 10, 1, 0, heat)


@pytest.mark.oracle
def test_the_percentage_is_qemus(tmp_path: Path) -> None:
    path = scattered([5, 1, 9, 2, 3, 4]).write(tmp_path / "a.qcow2")
    told = json.loads(qemu_img("check", "--output=json", path).stdout)
    with opened(path, FRAGMENTATION) as session:
        facts = {fact.label: fact for fact in fragmentation_view(session).facts}
        share = 100 * told["fragmented-clusters"] / told["allocated-clusters"]
        assert facts["Fragmented"].value == f"{share:.2f} %"
        # In guest order: 1 | 2 3 4 | 5 | 9, and 5 lies before all of them.
        assert facts["Runs"].value == "4"
        assert facts["Jumps back"].value == "1"
        assert facts["Mean run"].value == "96 KiB"


def test_heat_says_where_it_is_scattered(tmp_path: Path) -> None:
    builder = scattered(list(range(16)))
    builder.skip(1)
    for number in (800, 810, 805, 801, 811, 806):
        builder.data(number, pattern(number, SIZE))
    with opened(builder.write(tmp_path / "a.qcow2"), FRAGMENTATION) as session:
        view = fragmentation_view(session)
        assert len(view.regions) == 64
        assert sum(one.length for one in view.regions) == 64 << 20
        assert view.regions[0].heat == 0.0
        assert view.regions[50].heat == 1.0
        assert view.regions[30].heat is None
        assert sum(one.stored for one in view.regions) == 22 * SIZE
        assert "6 breaks" in region_words(view.regions[50])
        assert region_words(view.regions[30]) == "Nothing is stored here."


def test_a_strip_of_any_width_keeps_the_worst() -> None:
    rows = [row(None), row(0.1), row(0.9), row(None)]
    assert hottest(rows, 4) == [None, 0.1, 0.9, None]
    assert hottest(rows, 2) == [0.1, 0.9]
    assert hottest(rows, 1) == [0.9]
    assert hottest(rows, 8) == [None, None, 0.1, 0.1, 0.9, 0.9, None, None]


def test_the_cache_card_and_the_options(tmp_path: Path) -> None:
    path = scattered([0]).write(tmp_path / "a,b.qcow2")
    with opened(path, FRAGMENTATION) as session:
        view = fragmentation_view(session)
        cache = {fact.label: fact for fact in view.cache}
        assert cache["L2 tables"].value == "64 KiB"
        assert cache["Cache needed"].value == "64 KiB"
        assert (cache["QEMU's default"].gloss, cache["QEMU's default"].tone) == (
            "enough",
            Tone.GOOD,
        )
        assert view.options[0].startswith("-blockdev ")
        assert "l2-cache-size=65536" in view.options[1]
        assert "a,,b.qcow2" in view.options[1]


def test_a_default_that_is_too_small(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 40, cluster_bits=16)
    builder.data(0, b"x")
    with opened(builder.write(tmp_path / "a.qcow2"), FRAGMENTATION) as session:
        default = fragmentation_view(session).cache[2]
        assert (default.gloss, default.tone) == ("covers 256 GiB of the disk", Tone.WARNING)


def test_nothing_to_show_is_explained(tmp_path: Path) -> None:
    path = ImageBuilder(virtual_size=1 << 20).write(tmp_path / "empty.qcow2")
    with opened(path) as session:
        assert fragmentation_view(session).note == "Not measured yet."
        session.failures[Part.FRAGMENTATION] = "It broke."
        assert (fragmentation_view(session).note, fragmentation_view(session).tone) == (
            "It broke.",
            Tone.BAD,
        )
    with opened(path, FRAGMENTATION) as session:
        view = fragmentation_view(session)
        assert "Nothing is stored" in view.note
        assert (view.facts, view.regions) == ((), ())
    raw = tmp_path / "a.raw"
    raw.write_bytes(bytes(4096))
    with opened(raw, FRAGMENTATION) as session:
        assert "raw image" in fragmentation_view(session).note
