"""``commit``: what an overlay holds goes into a file below it, which then serves it.

At every moment the disk through the overlay is the same: until it is emptied it hides what is
written below, and it is emptied only after the base is durable and was compared with it.  So a
commit that was interrupted is simply run again.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ..chain import Chain
from ..edit.editor import Editor
from ..edit.plan import Outcome
from ..errors import EditRefused, NotFoundError
from ..record import record
from ..storage.identity import identity_of
from ..text import safe, size, size_and_bytes
from .command_line import command_line
from .commit_runs import Readers, changed_snapshots, readers_of_base
from .commit_writing import write_to_qcow2, write_to_raw


@record
class Commit:
    """Write what the layers above depth ``base`` hold to it, and empty the overlay.

    ``base`` 1 is the backing file; see :func:`find_base` for names.  With ``drop``, and always with
    a deeper base, the overlay is not emptied.  Unless ``allow_dependents``, EditRefused is raised
    when other images in the folders of the chain read the base, or when internal snapshots of the
    overlay do.  A raw base is changed in place; a base that is too small grows.
    """

    base: int = 1
    drop: bool = False
    allow_dependents: bool = False
    verb = "commit"

    @property
    def writes_below(self) -> tuple[int, ...]:
        return (self.base,)

    def command(self, path: str) -> str:
        arguments = ["--depth", str(self.base)] if self.base != 1 else []
        if self.drop:
            arguments.append("-d")
        if self.allow_dependents:
            arguments.append("--allow-dependents")
        return command_line("commit", *arguments, path)

    def describe(self) -> dict[str, Any]:
        return {
            "verb": "commit",
            "base-depth": self.base,
            "drop": self.drop,
            "allow-dependents": self.allow_dependents,
        }

    def run(self, editor: Editor) -> Outcome:
        image = editor.image
        if image.backing is None:
            editor.require_sound()  # a header that cannot be read is the better reason
            raise EditRefused("Image does not have a backing file")
        chain = editor.chain()
        if self.base < 1:
            raise NotFoundError("A commit goes to a layer below the image: depth 1 or more.")
        chain.at_layer(self.base)  # it is there, or the reason why not is raised
        readers = readers_of_base(chain, self.base, editor.cancel)
        snapshots = changed_snapshots(chain, image, self.base)
        if not self.allow_dependents:
            self._refuse(chain, readers, [safe(one.name) for one in snapshots])
        shown = chain.layers[self.base].shown
        size_before = chain.at_layer(self.base).virtual_size
        lower = editor.below(self.base)
        raw = lower.editor is None
        emptied = not self.drop and self.base == 1
        # In a dry run the data is not moved, so that nothing could be compared.
        compare = emptied and not editor.dry
        if lower.editor is None:
            written = write_to_raw(editor, lower.storage, self.base, compare=compare)
        else:
            name = editor.image.storage.path or editor.image.name
            lower.editor.start_count(self.command(name), self.describe())
            written = write_to_qcow2(editor, lower.editor, self.base, compare=compare)
        if emptied:
            _empty(editor)
        size_after = editor.chain().at_layer(self.base).virtual_size
        return Outcome(
            summary=f"Writes what the image holds ({size(written.data)}) to '{shown}'"
            + (" and empties the image." if emptied else "; the image keeps it as well."),
            steps=self._steps(emptied, size_before, size_after, raw),
            warnings=tuple(self._warnings(readers, [safe(one.name) for one in snapshots], raw)),
            changed_bytes=0,
            no_undo=written.no_undo,
            written_elsewhere=written.file + written.data_file,
            facts={
                "base": shown,
                "copied": written.data,
                "zeroed": written.zeros,
                "emptied": emptied,
                "base-size-before": size_before,
                "base-size-after": size_after,
                "base-bytes-written": written.file,
                "base-data-file-written": written.data_file,
                "base-length-after": None if written.plan is None else written.plan.length_after,
                "base-switches": 0 if written.plan is None else written.plan.switches,
                "dependents": [safe(path) for path in readers.others],
                "between": [safe(path) for path in readers.between],
            },
        )

    # ---- whom it concerns

    def _refuse(self, chain: Chain, readers: Readers, snapshots: list[str]) -> None:
        shown = chain.layers[self.base].shown
        if readers.others:
            names = ", ".join(f"'{safe(path)}'" for path in readers.others[:10])
            more = len(readers.others) - 10
            raise EditRefused(
                f"'{shown}' is also read by {names}{f' and {more} more' if more > 0 else ''}: "
                "their disks would change. Flatten the siblings first (qcowtui flatten "
                f"{safe(readers.others[0])}), or allow them to change (--allow-dependents)."
            )
        if snapshots:
            names = ", ".join(f'"{name}"' for name in snapshots[:10])
            raise EditRefused(
                f"Internal snapshots of the image read through '{shown}' where it would be "
                f"written, and would change: {names}. Delete them or flatten the image instead, "
                "or allow them to change (--allow-dependents), as qemu-img does without saying so."
            )

    def _warnings(self, readers: Readers, snapshots: list[str], raw: bool) -> list[str]:
        found = []
        if readers.others:
            names = ", ".join(f"'{safe(path)}'" for path in readers.others[:10])
            found.append(f"These images read the base, and their disks change: {names}.")
        if snapshots:
            found.append(
                "These snapshots of the image read through the base, and change: "
                + ", ".join(f'"{name}"' for name in snapshots[:10])
                + "."
            )
        if self.base > 1:
            found.append(
                "The layers between the image and the base are of no use by themselves afterwards: "
                "they read a mixture of their own data and the image's."
            )
        if readers.unknown:
            names = ", ".join(f"'{safe(path)}'" for path in readers.unknown[:5])
            found.append(f"Whether these need the base could not be found out: {names}.")
        if not raw:
            found.append(
                "Undo of this image does not change the base back, nor does it need to: the base "
                "has an undo of its own. Taking back the base means taking back this image first."
            )
        return found

    def _steps(self, emptied: bool, before: int, after: int, raw: bool) -> tuple[str, ...]:
        steps = []
        if after != before:
            steps.append(
                f"Grows the base from {size_and_bytes(before)} to {size_and_bytes(after)}."
            )
        steps.append(
            "Writes data and zeros to the base in place, and makes them durable."
            if raw
            else "Writes data and zeros to free clusters of the base, and switches it over."
        )
        if emptied:
            steps.append("Compares the base with the image, then empties the image.")
        return tuple(steps)


def find_base(chain: Chain, name: str) -> int:
    """The depth of the layer of ``chain`` called ``name``: as recorded above it, or a path to it.

    Raises NotFoundError.
    """
    wanted = os.fsencode(name)
    for layer in chain.layers[1:]:
        if layer.name == wanted or layer.path == name:
            return layer.depth
    identity = identity_of(name)
    for layer in chain.layers[1:]:
        if identity is not None and layer.path is not None and identity_of(layer.path) == identity:
            return layer.depth
    raise NotFoundError(
        f"Did not find '{safe(name)}' in the backing chain of '{safe(chain.image.name)}'"
    )


def _empty(editor: Editor) -> None:
    """Take everything out of the active state; snapshots keep what they have."""
    tx = editor.begin()
    if not tx.l1.any():
        return
    tx.count_tree(tx.l1, -1)
    tx.l1 = np.zeros_like(tx.l1)
    tx.settle_all = bool(tx.snapshots)
    editor.commit(tx, tx.kept_snapshots())
