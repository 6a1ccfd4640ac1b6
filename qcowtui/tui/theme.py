"""The colours of the map as theme variables: ``$map-data``, ``$map-leaked``, ... ``$map-cursor``.

The app returns :func:`map_variables` from ``get_theme_variable_defaults``; a theme overrides single
ones in its ``variables``.
"""

from __future__ import annotations

from collections.abc import Mapping

from textual.app import App
from textual.color import Color, ColorParseError
from textual.theme import Theme

from qcow.inspect.classes import ClusterClass

from ..views.palette import RGB, MapTheme, default_theme, slug


def map_variables(dark: bool) -> dict[str, str]:
    """The default value of each variable, for a dark or a light theme."""
    theme = default_theme(dark)
    variables = {
        f"map-{slug(member)}": Color(*theme.colours[member]).hex for member in ClusterClass
    }
    variables["map-cursor"] = Color(*theme.cursor).hex
    return variables


def map_theme(app: App[object]) -> MapTheme:
    """The map colours of the theme in use."""
    dark = app.current_theme.dark
    return theme_from(dark, app.theme_variables)


def theme_from(dark: bool, variables: Mapping[str, str]) -> MapTheme:
    """Map colours from theme variables; what is missing or not a colour keeps its default."""
    default = default_theme(dark)

    def colour(name: str, fallback: RGB) -> RGB:
        try:
            return Color.parse(variables[name]).rgb
        except (KeyError, ColorParseError):
            return fallback

    colours = tuple(
        colour(f"map-{slug(member)}", default.colours[member]) for member in ClusterClass
    )
    return MapTheme(dark, colours, colour("map-cursor", default.cursor))


#: The app's own themes; the first one is used until the user chooses another.
THEMES = (
    Theme(
        name="qcow-dark",
        dark=True,
        primary="#4C9BE8",
        secondary="#8FB8DE",
        accent="#E8B04C",
        foreground="#D6DAE0",
        background="#0F1115",
        surface="#14171C",
        panel="#1D2128",
        success="#3FAE8C",
        warning="#E69F00",
        error="#ED5A2B",
        variables={"block-cursor-blurred-background": "#2A303A"},
    ),
    Theme(
        name="qcow-light",
        dark=False,
        primary="#005A9C",
        secondary="#3B6E94",
        accent="#9A5B00",
        foreground="#22262B",
        background="#FAFAF8",
        surface="#F2F2EF",
        panel="#E4E5E2",
        success="#00734F",
        warning="#9A6200",
        error="#B93400",
        variables={"block-cursor-blurred-background": "#D5D8D6"},
    ),
)
