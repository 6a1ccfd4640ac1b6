"""Every two classes can be told apart, whoever looks and whatever the terminal can do."""

from __future__ import annotations

from itertools import combinations

import pytest

from qcow.inspect.classes import ClusterClass
from qcowtui.views.palette import (
    FADES,
    GLYPHS,
    RGB,
    class_ink,
    default_theme,
    dimmed_ink,
    heat_ink,
    ink_on,
    luminance,
    nearest_256,
    slug,
)

from .colours import VISIONS, distance, oklab

THEMES = pytest.mark.parametrize("dark", [True, False], ids=["dark", "light"])
EMPTY = {ClusterClass.UNREAD, ClusterClass.FREE, ClusterClass.BEYOND_END}


@THEMES
@pytest.mark.parametrize("vision", list(VISIONS))
def test_classes_are_told_apart_in_every_kind_of_vision(dark: bool, vision: str) -> None:
    theme = default_theme(dark)
    for one, other in combinations(ClusterClass, 2):
        apart = distance(class_ink(theme, one).rgb, class_ink(theme, other).rgb, vision)
        assert apart >= 5.0, f"{one.name} and {other.name} are {apart:.1f} apart"


@THEMES
@pytest.mark.parametrize("vision", list(VISIONS))
def test_damage_stands_out_of_what_it_lies_in(dark: bool, vision: str) -> None:
    theme = default_theme(dark)
    usual = [member for member in ClusterClass if member < ClusterClass.VM_STATE]
    for problem in (member for member in ClusterClass if member.is_problem):
        for member in usual:
            apart = distance(class_ink(theme, problem).rgb, class_ink(theme, member).rgb, vision)
            assert apart >= 8.0, f"{problem.name} in {member.name}: {apart:.1f}"


@THEMES
def test_no_two_classes_differ_in_red_and_green_alone(dark: bool) -> None:
    """Where hue differs along red to green, lightness or blue to yellow differs too."""
    theme = default_theme(dark)
    for one, other in combinations(ClusterClass, 2):
        first, second = oklab(theme.colours[one]), oklab(theme.colours[other])
        red_green = abs(first[1] - second[1])
        rest = ((first[0] - second[0]) ** 2 + (first[2] - second[2]) ** 2) ** 0.5
        if red_green > 5:
            assert rest >= 4.0, f"{one.name} and {other.name}"


def test_glyphs_are_distinct_plain_ascii() -> None:
    assert set(GLYPHS) == set(ClusterClass)
    assert len(set(GLYPHS.values())) == len(ClusterClass)
    assert all(len(glyph) == 1 and glyph.isascii() and glyph > " " for glyph in GLYPHS.values())


@THEMES
def test_brightness_rises_with_use_and_never_dims_damage(dark: bool) -> None:
    theme = default_theme(dark)
    free = theme.colours[ClusterClass.FREE]
    for member in ClusterClass:
        inks = [class_ink(theme, member, fade) for fade in range(FADES)]
        away = [distance(ink.rgb, free) for ink in inks]
        if member.is_problem or member in EMPTY:
            assert len({ink.rgb for ink in inks}) == 1
        else:
            assert away == sorted(away)
            assert len({ink.rgb for ink in inks}) == FADES
            assert away[0] >= 5.0  # the least used cell is still not free


@THEMES
def test_damage_has_its_mark_in_colour_and_under_a_filter(dark: bool) -> None:
    theme = default_theme(dark)
    for member in ClusterClass:
        ink = class_ink(theme, member, 0)
        assert (ink.mark == GLYPHS[member]) == member.is_problem
        if member.is_problem:
            assert dimmed_ink(theme, member) == class_ink(theme, member)
    assert class_ink(theme, ClusterClass.UNREAD).mark != class_ink(theme, ClusterClass.FREE).mark


@THEMES
def test_sixteen_colours_keep_the_families_apart(dark: bool) -> None:
    theme = default_theme(dark)
    numbers = {member: class_ink(theme, member).ansi16 for member in ClusterClass}
    families = [
        ClusterClass.FREE,
        ClusterClass.ZERO_ALLOCATED,
        ClusterClass.DATA,
        ClusterClass.COMPRESSED,
        ClusterClass.SHARED,
        ClusterClass.VM_STATE,
        ClusterClass.L2,
        ClusterClass.REFCOUNT_BLOCK,
        ClusterClass.SNAPSHOT_TABLE,
        ClusterClass.LEAKED,
        ClusterClass.CORRUPT,
        ClusterClass.OVERLAPPING,
    ]
    assert len({numbers[member] for member in families}) == len(families)
    assert all(0 <= number < 16 for number in numbers.values())


@THEMES
def test_heat_is_a_ramp_of_lightness(dark: bool) -> None:
    theme = default_theme(dark)
    steps = [luminance(heat_ink(theme, step / 12, "x").rgb) for step in range(13)]
    assert steps == sorted(steps, reverse=not dark)
    assert len(set(steps)) == 13
    free = theme.colours[ClusterClass.FREE]
    assert distance(heat_ink(theme, 0.0, "x").rgb, free) >= 8.0


def xterm(number: int) -> RGB:
    if number >= 232:
        return (8 + 10 * (number - 232),) * 3
    cube, place = (0, 95, 135, 175, 215, 255), number - 16
    return cube[place // 36], cube[place // 6 % 6], cube[place % 6]


@THEMES
def test_256_colours_keep_the_classes_apart(dark: bool) -> None:
    theme = default_theme(dark)
    for one, other in combinations(ClusterClass, 2):
        first, second = (xterm(class_ink(theme, member).ansi256) for member in (one, other))
        assert distance(first, second) >= 5.0, f"{one.name} and {other.name}"


def test_256_colours() -> None:
    assert nearest_256((255, 0, 0)) == 196
    assert nearest_256((0, 0, 0)) == 16
    assert nearest_256((128, 128, 128)) == 244
    assert all(16 <= nearest_256((part, 255 - part, part // 2)) < 256 for part in range(256))


def test_text_on_a_colour_is_readable() -> None:
    for dark in (True, False):
        for colour in default_theme(dark).colours:
            light, low = sorted((luminance(colour), luminance(ink_on(colour))), reverse=True)
            assert (light + 0.05) / (low + 0.05) >= 4.5


def test_variable_names() -> None:
    assert slug(ClusterClass.ZERO_ALLOCATED) == "zero-allocated"
    assert slug(ClusterClass.L2) == "l2"
