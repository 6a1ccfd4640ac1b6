"""``flatten``: everything the chain provides goes into the image, which then needs no base."""

from __future__ import annotations

from typing import Any

from ..edit.editor import Editor
from ..edit.plan import Outcome
from ..errors import EditRefused
from ..record import record
from ..text import plural, safe, size
from .command_line import command_line
from .rebase import move_to


@record
class Flatten:
    """Make the image independent of its backing files.  ``keep_snapshots``: see ``Rebase``."""

    keep_snapshots: bool = True
    verb = "flatten"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        arguments = () if self.keep_snapshots else ("--change-snapshots",)
        return command_line("flatten", *arguments, path)

    def describe(self) -> dict[str, Any]:
        return {"verb": "flatten", "keep-snapshots": self.keep_snapshots}

    def run(self, editor: Editor) -> Outcome:
        image = editor.image
        if image.backing is None:
            editor.require_sound()  # a header that cannot be read is the better reason
            raise EditRefused(f"'{safe(image.name)}' has no backing file: it is flat already.")
        layers = len(editor.chain().layers) - 1
        was = safe(image.backing.name)
        copied = move_to(editor, None, None, keep_snapshots=self.keep_snapshots)
        return Outcome(
            summary=f"Makes the image independent of '{was}'; its disk stays the same.",
            steps=(
                f"Copies {size(copied)} from {plural(layers, 'backing file')} into the image.",
                "Takes the backing file's name out of the header.",
            ),
            changed_bytes=0,
            facts={"copied": copied},
        )
