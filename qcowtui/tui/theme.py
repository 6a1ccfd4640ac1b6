"""The colours of the map as theme variables: ``$map-data``, ``$map-leaked``, ... ``$map-cursor``.

The app returns :func:`map_variables` from ``get_theme_variable_defaults``; a theme overrides single
ones in its ``variables``.
"""

from __future__ import annotations

from collections.abc import Mapping

from textual.app import App
from textual.color import Color, ColorParseError

from qcow.inspect.classes import ClusterClass

from ..views.palette import RGB, MapTheme, default_theme, slug


def map_variables(dark: bool) -> dict[str, str]:
    """The default value of each variable, for a dark or a light theme."""
    theme = default_theme(dark)
    variables = {
        f"map-{slug(member)}": Color(*colour).hex for member, colour in theme.colours.items()
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

    colours = {
        member: colour(f"map-{slug(member)}", fallback)
        for member, fallback in default.colours.items()
    }
    assert set(colours) == set(ClusterClass)
    return MapTheme(dark, colours, colour("map-cursor", default.cursor))
