"""Carrying out an action on bytes in memory, with every operation written down."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from qcow.edit.apply import Action
from qcow.edit.editor import Editor
from qcow.image.image import Image
from qcow.storage.base import WritableStorage
from qcow.storage.gate import Gate, Policy
from qcow.storage.memory import WritableMemory
from tests.support.storages import RecordingStorage

from .enumerate import SECTOR, Op, replay, sectors_of, sectors_of_two, states, states_of_two
from .enumerate import apply as carry_out
from .oracle import TinyImage, Verdict, View
from .variants import BELOW, Variant

#: What stands between the action and the storage that records.
Wrap = Callable[[WritableStorage], WritableStorage]


def unwrapped(storage: WritableStorage) -> WritableStorage:
    return storage


class State(NamedTuple):
    """What a crash left; ``data``: the external data file, None for none."""

    label: str
    file: bytes
    data: bytes | None = None


@dataclass
class Acted:
    """``ops`` lead from ``base`` to ``final``; ``views``: what was seen after each switch.

    ``order``: the operations on the image (0) and on the external data file (1), which was ``data``
    before.  ``in_place``: guest data was changed in the data file, where it lies.
    """

    variant: Variant
    base: bytes
    ops: list[Op]
    final: bytes
    data: bytes = b""
    order: list[tuple[int, Op]] = field(default_factory=list)
    views: set[View] = field(default_factory=set)
    in_place: bool = False

    @property
    def final_data(self) -> bytes:
        return replay(self.data, (op for file, op in self.order if file == 1))

    def look(self, file: bytes, data: bytes | None = None) -> TinyImage:
        """A file in the place of the image, read by the independent reader."""
        return TinyImage(file, BELOW, self.data if data is None else data)

    def judge(self, file: bytes, data: bytes | None = None) -> str | None:
        """Why ``file`` (beside ``data``) is none that a crash may leave, or None."""
        try:
            image = self.look(file, data)
            verdict = image.check()
            if verdict != Verdict((), 0):
                return f"{verdict.leaks} leak(s), {verdict.errors[:3]}"
            if self.in_place:
                return self._judge_in_place(image)
            return None if image.view() in self.views else "a view that never was"
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def _judge_in_place(self, image: TinyImage) -> str | None:
        """In a data file each sector is what it was or what it shall be; all else is one view."""
        if image.view()._replace(content="") not in {v._replace(content="") for v in self.views}:
            return "settings that never were"
        old = self.look(self.base, self.data).disk()
        new = self.look(self.final, self.final_data).disk()
        now = image.disk()
        for at in range(0, len(now), SECTOR):
            piece = now[at : at + SECTOR]
            if piece not in (old[at : at + SECTOR], new[at : at + SECTOR]):
                return f"guest bytes at {at} are neither the old nor the new ones"
        return None

    def states(self, *, few: bool = False, seed: int = 1) -> Iterator[State]:
        """The files that a crash can leave, any sector of what was under way being there or not."""
        most, number = (32, 2) if self.variant.large else (400, 66)
        if few:
            most, number = 16, 3
        if self.variant.data is not None:
            order = sectors_of_two(self.order, most=most // 2)
            for label, file, data in states_of_two(
                (self.base, self.data), order, random=5 if few else 16, cuts=0, seed=seed
            ):
                yield State(label, file, data)
            return
        pieces = sectors_of(self.ops, most=most // 2)
        for label, file in states(
            self.base, pieces, full=4 if few else 8, random=number, cuts=0, seed=seed
        ):
            yield State(label, file)


@contextmanager
def editor_over(
    storage: WritableStorage, variant: Variant, *, data: WritableStorage | None = None
) -> Iterator[Editor]:
    """An editor in earnest, without locks and history, beside the files the image refers to."""
    with tempfile.TemporaryDirectory() as folder:
        storage.path = str(Path(folder) / "image.qcow2")
        for name, content in BELOW.items() if variant.below else ():
            (Path(folder) / name.decode()).write_bytes(content)
        if variant.data is not None:
            (Path(folder) / "data.raw").write_bytes(variant.data())
        gate = Gate(Policy.OWN_FOLDER)
        with Editor(Image(storage), storage, gate=gate, data_file=data) as editor:
            yield editor


def act(
    variant: Variant,
    actions: Sequence[Action],
    base: bytes | None = None,
    data: bytes | None = None,
    *,
    wrap: Wrap = unwrapped,
    wrap_data: Wrap = unwrapped,
    order: list[tuple[int, Op]] | None = None,
    in_place: bool = False,
) -> Acted:
    """Run ``actions`` and note the operations (in ``order``) and the states between switches.

    ``base``, ``data``: the image and its data file to run them on, None for the variant's.
    """
    base = variant.make() if base is None else base
    order = [] if order is None else order
    memory = WritableMemory(base)
    storage = RecordingStorage(memory, shared=order, file=0)
    if data is None:
        data = b"" if variant.data is None else variant.data()
    beside: WritableStorage | None = None
    if variant.data is not None:
        beside = wrap_data(RecordingStorage(WritableMemory(data), shared=order, file=1))
    with editor_over(wrap(storage), variant, data=beside) as editor:
        for action in actions:
            editor.start_count()
            action.run(editor)
    acted = Acted(variant, base, storage.ops, memory.contents(), data, order, in_place=in_place)
    note_views(acted)
    assert replay(base, storage.ops) == acted.final
    return acted


def note_views(acted: Acted) -> None:
    """Find out what was seen before, and after each write to the header."""
    acted.views.add(acted.look(acted.base).view())
    data = bytearray(acted.data)
    file = bytearray(acted.base)
    for number, op in acted.order:
        carry_out(data if number else file, op)
        if not number and op[0] == "w" and op[1] < SECTOR:
            acted.views.add(acted.look(bytes(file), bytes(data)).view())
