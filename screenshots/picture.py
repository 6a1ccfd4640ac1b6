"""A picture of a terminal screen: Textual's SVG turned into PNG with a font that is there."""

from __future__ import annotations

import re
from pathlib import Path

from textual.app import App

#: DejaVu Sans Mono has every glyph the app draws and comes with nearly every Linux.
_FONT = "DejaVu Sans Mono"


def save(app: App[int], path: Path) -> None:
    """Write the screen as it stands to ``path`` (a PNG)."""
    import resvg_py

    from .png import smaller

    svg = app.export_screenshot(title="qcowtui", simplify=True)
    svg = re.sub(r"@font-face\s*{[^}]*}", "", svg)
    svg = re.sub(r"font-family:[^;\"}]*", f"font-family: {_FONT}", svg)
    path.write_bytes(smaller(bytes(resvg_py.svg_to_bytes(svg_string=svg))))
