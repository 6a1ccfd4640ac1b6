"""What a repaint costs, against a loop that measures the machine: CPU time, not the clock."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region

from qcow.inspect.classes import ClusterClass
from qcowtui.tui.widgets.cluster_map import ClusterMap
from qcowtui.tui.widgets.ink_styles import Depth
from qcowtui.views.painters import ClassPainter
from qcowtui.views.pyramid import ClassPyramid

from .apps import OneWidget

TOTAL = 1 << 28
NOISE_AT = 1 << 27
NOISE = 1 << 21


@pytest.fixture(scope="module")
def painter() -> ClassPainter:
    """256 Mi clusters of data, with a stretch in which every cluster differs from the next."""
    pyramid = ClassPyramid(TOTAL)
    pyramid.update_runs(0, np.array([TOTAL]), np.array([ClusterClass.DATA]))
    noise = np.random.default_rng(1).integers(ClusterClass.FREE, ClusterClass.LEAKED, NOISE)
    pyramid.update(NOISE_AT, noise.astype(np.uint8))
    return ClassPainter(pyramid)


def cpu(work: Callable[[], object], times: int = 7) -> float:
    """The least CPU seconds of several runs."""
    best = float("inf")
    for _ in range(times):
        start = time.thread_time()
        work()
        best = min(best, time.thread_time() - start)
    return best


def machine() -> float:
    """CPU seconds for 10,000 segments and their text: about one dense screen's worth of Python."""
    styles = [Style(color=f"#{number:06x}") for number in range(100)]

    def work() -> str:
        segments = [Segment("▀", styles[number % 100]) for number in range(10_000)]
        return "".join(segment.text + str(segment.style is None) for segment in segments)

    return cpu(work)


async def test_a_screen_of_noise_costs_a_few_times_its_segments(painter: ClassPainter) -> None:
    map_ = ClusterMap(painter, depth=Depth.TRUE)
    async with OneWidget(map_).run_test(size=(200, 50)) as pilot:
        map_.action_zoom_one_to_one()
        map_.select(NOISE_AT + NOISE // 2)
        await pilot.pause()
        region = Region(0, 0, 199, 50)
        warm_lines = map_.render_lines(region)
        assert sum(len(list(strip)) for strip in warm_lines) > 8_000

        def cold() -> None:
            map_.notify_style_update()
            for strip in map_.render_lines(region):
                strip.render(map_.app.console)

        unit = machine()
        assert cpu(cold) < 8 * unit
        assert cpu(lambda: map_.render_lines(region)) < unit


@pytest.mark.parametrize("power", [0, 3, 5, 8, 13])
def test_sampling_a_screen_is_cheap_at_any_scale(painter: ClassPainter, power: int) -> None:
    per_cell = 1 << power
    first = max(0, NOISE_AT - 10_000 * per_cell) // per_cell * per_cell
    assert cpu(lambda: painter.codes(first, per_cell, 20_000)) < 2 * machine()
