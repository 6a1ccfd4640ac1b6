"""Carrying out an action on bytes in memory, with every operation written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from qcow.edit.apply import Action
from qcow.edit.editor import Editor
from qcow.image.image import Image
from qcow.storage.base import WritableStorage
from qcow.storage.gate import Gate, Policy
from qcow.storage.memory import WritableMemory
from tests.support.storages import RecordingStorage

from .enumerate import Op, replay
from .oracle import TinyImage, Verdict, View


@dataclass
class Acted:
    """``ops`` lead from ``base`` to ``final``; ``views``: what was seen after each switch."""

    base: bytes
    ops: list[Op]
    final: bytes
    backing: bytes = b""
    views: set[View] = field(default_factory=set)

    def judge(self, file: bytes) -> str | None:
        """Why ``file`` is none that a crash may leave, or None."""
        try:
            image = TinyImage(file, self.backing)
            verdict = image.check()
            if verdict != Verdict((), 0):
                return f"{verdict.leaks} leak(s), {verdict.errors[:3]}"
            return None if image.view() in self.views else "a view that never was"
        except Exception as error:
            return f"{type(error).__name__}: {error}"


def editor_over(storage: WritableStorage) -> Editor:
    """An editor in earnest, without locks and history."""
    return Editor(Image(storage), storage, gate=Gate(Policy.CLOSED))


def act(base: bytes, actions: Sequence[Action], backing: bytes = b"") -> Acted:
    """Run ``actions`` on ``base`` and note the operations and the states between switches."""
    storage = RecordingStorage(WritableMemory(base))
    with editor_over(storage) as editor:
        for action in actions:
            editor.start_count()
            action.run(editor)
    final = storage.read(0, storage.size())
    acted = Acted(base, storage.ops, final, backing)
    acted.views.add(TinyImage(base, backing).view())
    for index, op in enumerate(storage.ops):
        if op[0] == "w" and op[1] < 512:
            acted.views.add(TinyImage(replay(base, storage.ops[: index + 1]), backing).view())
    assert replay(base, storage.ops) == final
    return acted
