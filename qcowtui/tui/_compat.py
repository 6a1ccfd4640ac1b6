"""The only place that touches what Textual does not publish."""

from __future__ import annotations

import contextlib
import time
import traceback
from pathlib import Path
from typing import TypeVar

from rich.text import Text
from textual.app import App

from qcow.text import safe

Result = TypeVar("Result")


class CalmApp(App[Result]):
    """A defect ends the app with two sentences; the traceback goes to a file, not to the user."""

    #: Where tracebacks are kept; None keeps none.
    crash_log: Path | None = None

    def _handle_exception(self, error: Exception) -> None:
        kept = "" if self.crash_log is None else _keep(self.crash_log, error)
        message = Text(
            f"qcowtui stopped on a defect of its own ({type(error).__name__}: "
            f"{safe(str(error), 200)}).\nNo image was changed.{kept}"
        )
        # Textual shows an error that knows how to show itself, else a traceback with all values.
        with contextlib.suppress(AttributeError):
            error.__rich__ = lambda: message  # type: ignore[attr-defined]
        super()._handle_exception(error)


def _keep(path: Path, error: Exception) -> str:
    """Append the traceback to a file; a sentence that says where it is."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(time.strftime("%Y-%m-%d %H:%M:%S\n"))
            file.writelines(safe(line) + "\n" for line in lines)
    except OSError:
        return ""
    return f" Details are in {safe(str(path))}."
