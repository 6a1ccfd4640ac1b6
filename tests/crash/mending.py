"""Repairing damaged images on bytes in memory, with every operation written down; judging states.

What a crash during a repair leaves is the damaged image, with the same findings and the same guest
bytes as before (nothing of it is overwritten, the file only grows), or the repaired one.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

from qcow.actions.history import Undo
from qcow.actions.repair import RepairImage
from qcow.actions.repair.lost_header import mending_for
from qcow.chain import Chain, open_chain
from qcow.disk import Disk
from qcow.edit.apply import Action
from qcow.edit.editor import Editor
from qcow.edit.history import History
from qcow.edit.mending import Mending
from qcow.edit.switch import JournalSwitch
from qcow.errors import QcowError
from qcow.image.image import Image
from qcow.inspect.check import check
from qcow.inspect.lost import scan_lost
from qcow.storage.base import WritableStorage
from qcow.storage.gate import Gate, Policy
from qcow.storage.locks import LockMode
from qcow.storage.memory import MemoryStorage, WritableMemory
from tests.repair.damage import DAMAGES
from tests.repair.images import IMAGES
from tests.support.salvage import clusters_of
from tests.support.storages import RecordingStorage

from .acting import Wrap, unwrapped
from .enumerate import SECTOR, Op, replay, sectors_of, states
from .oracle import TinyImage
from .variants import BELOW, Variant

#: Clusters of a disk that are looked at, at most: a damaged size can be anything.
_MOST = 2000


@dataclass(frozen=True)
class Harm:
    """A damaged image, and the choices its repair needs.

    ``grows``: data is missing behind the end of the file, which is longer after a crash and shows
    zeros there.  ``cluster``: bytes of one.
    """

    name: str
    make: Callable[[], bytes]
    cluster: int
    choices: Mapping[str, str] = field(default_factory=dict)
    grows: bool = False

    def action(self) -> RepairImage:
        return RepairImage(self.choices)


@lru_cache
def _damaged(damage: str, variant: str) -> bytes:
    return next(d for d in DAMAGES if d.name == damage).done(_variant(variant).make())


def _variant(name: str) -> Variant:
    return next(variant for variant in IMAGES if variant.name == name)


def harm(damage: str, variant: str, *, grows: bool = False, **choices: str) -> Harm:
    """A kind of damage of the matrix; ids of remedies are written with ``_`` for ``-``."""
    answers = {key.replace("_", "-"): value for key, value in choices.items()}
    cluster = TinyImage(_variant(variant).make()).cluster
    make = partial(_damaged, damage, variant)
    return Harm(f"{damage}, {variant}", make, cluster, answers, grows)


@dataclass(frozen=True)
class Sight:
    """``findings`` of a check by code and count; ``errors``, ``leaks``; ``disks``: a digest of
    every state's guest bytes, what cannot be read standing out; ``tiny``: what another reader
    says, which shares nothing with the engine and often cannot read damaged images."""

    findings: tuple[tuple[str, int], ...]
    errors: int
    leaks: int
    disks: tuple[tuple[str, str], ...]
    tiny: str


def sight(file: bytes, mending: Mending | None = None) -> Sight | str:
    """What is seen of ``file``; the error's name when it cannot be opened."""
    storage = MemoryStorage(file)
    try:
        image = Image(storage) if mending is None else mending.seen(storage)
    except QcowError as error:
        return type(error).__name__
    found = sorted((problem.code, problem.count) for problem in image.problems)
    errors = leaks = -1
    try:
        result = check(image, decode=False)
    except QcowError as error:
        found.append((type(error).__name__, 0))
    else:
        found += [(finding.code, finding.count) for finding in result.findings]
        errors = result.corruptions + result.extra_corruptions + result.check_errors
        leaks = result.leaks + result.extra_leaks
    first = image.storage.read(0, SECTOR)
    return Sight(tuple(found), errors, leaks, tuple(_disks(image)), _tiny(first + file[SECTOR:]))


def _disks(image: Image) -> Iterator[tuple[str, str]]:
    size = image.header.cluster_size
    # What a snapshot's disk shows of a backing file, the other reader looks at.
    for snapshot in (None, *(() if image.backing is not None else image.snapshots)):
        with ExitStack() as held:
            try:
                state: Disk = image.active if snapshot is None else image.snapshot_state(snapshot)
                if snapshot is None and image.backing is not None:
                    folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
                    state = held.enter_context(_chain(image, folder))
            except QcowError as error:
                yield "unreadable", type(error).__name__
                continue
            digest = hashlib.blake2b(digest_size=16)
            for cluster in clusters_of(state, size, _MOST):
                digest.update(b"cannot be read" if cluster is None else cluster)
            yield state.label, digest.hexdigest()


def _chain(image: Image, folder: Path) -> Chain:
    """The active disk over the backing files, which are put into ``folder``."""
    _put_below(folder)
    image.storage.path = str(folder / "image.qcow2")
    return open_chain(image, Gate(Policy.OWN_FOLDER), lock=LockMode.SNOOP)


def _put_below(folder: Path) -> None:
    for name, content in BELOW.items():
        (folder / name.decode()).write_bytes(content)


def _tiny(file: bytes) -> str:
    try:
        image = TinyImage(file, BELOW)
        return f"{image.check()} {image.view()}"
    except Exception as error:  # a reader for sound images, which fails on others in any way
        return f"{type(error).__name__}: {error}"


@dataclass
class Mended:
    """``ops`` lead from ``base`` to ``final``, through the switches of the actions."""

    harm: Harm
    base: bytes
    ops: list[Op]
    final: bytes
    mending: Mending | None
    before: Sight | str = ""
    after: Sight | str = ""
    _grown: dict[int, Sight | str] = field(default_factory=dict)

    def states(self, *, few: bool = False, seed: int = 1) -> Iterator[tuple[str, bytes]]:
        """The files that a crash can leave, any sector of what was under way being there or not."""
        large = len(self.base) > 400_000
        most = 16 if few or large else 120
        pieces = sectors_of(self.ops, most=most)
        full, number = (4, 2) if few else (6, 2 if large else 12)
        return states(self.base, pieces, full=full, random=number, cuts=0, seed=seed)

    def judge(self, file: bytes) -> str:
        """ "damaged", "repaired", or else what is wrong with ``file``."""
        size = self.harm.cluster
        if file[size : len(self.base)] != self.base[size:]:
            return "something was overwritten"
        if len(file) < len(self.base):
            return "the file became shorter"
        if file[:SECTOR] not in (self.base[:SECTOR], self.final[:SECTOR]):
            return "sector 0 is torn"
        found = self._sight(file)
        if file[:SECTOR] == self.final[:SECTOR]:
            return "repaired" if found == self.after else f"a mixed view: {found}"
        return "damaged" if self._is_damaged(found, len(file)) else f"a mixed view: {found}"

    def _is_damaged(self, found: Sight | str, length: int) -> bool:
        """Whether it is the damaged image, though the file is longer.

        Garbage among the refcounts can count what lies behind the end, or then no longer behind it.
        """
        if found == self.before:
            return True
        if length not in self._grown:
            self._grown[length] = self._sight(self.base.ljust(length, b"\0"))
        grown = self._grown[length]
        if found != grown or isinstance(grown, str) or isinstance(self.before, str):
            return False
        return self.harm.grows or grown.disks == self.before.disks

    def _sight(self, file: bytes) -> Sight | str:
        return sight(file, mending_of(file, self.harm.choices) if self.mending else None)

    def look(self) -> None:
        """Note how the two ends are seen."""
        self.before, self.after = self._sight(self.base), self._sight(self.final)


def mending_of(file: bytes, choices: Mapping[str, str]) -> Mending | None:
    """The header that is proposed for a file without one."""
    if file[:4] == b"QFI\xfb":
        return None
    return mending_for(scan_lost(MemoryStorage(file)), choices)


@contextmanager
def editor_on(
    storage: WritableStorage, mending: Mending | None, journal: JournalSwitch | None = None
) -> Iterator[Editor]:
    """An editor in earnest beside the backing files, and a file that a history can be noted for."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.qcow2"
        path.touch()
        storage.path = str(path)
        _put_below(Path(folder))
        image = Image(storage) if mending is None else mending.seen(storage)
        gate = Gate(Policy.OWN_FOLDER)
        with Editor(image, storage, gate=gate, journal=journal, mending=mending) as editor:
            yield editor


def mend(harm: Harm, base: bytes | None = None, *, wrap: Wrap = unwrapped) -> Mended:
    """Repair ``base``, or else the damaged image itself, and note the operations.

    Raises QcowError, as when there is nothing to repair without a choice.
    """
    base = harm.make() if base is None else base
    mending = mending_of(base, harm.choices)
    memory = WritableMemory(base)
    storage = RecordingStorage(memory)
    with editor_on(wrap(storage), mending) as editor:
        run(editor, harm.action())
    done = Mended(harm, base, storage.ops, memory.contents(), mending)
    done.look()
    assert replay(base, storage.ops) == done.final
    return done


def mend_and_undo(harm: Harm) -> Mended:
    """Take the repair back again; the operations and the states of that alone."""
    base = harm.make()
    mending = mending_of(base, harm.choices)
    storage = RecordingStorage(WritableMemory(base))
    with editor_on(storage, mending) as editor:
        history = History.load(editor.storage.path or "", storage, editor.generation)
        editor.keep_history(history)
        run(editor, harm.action())
        repaired, storage.ops[:] = storage.inner.contents(), ()  # type: ignore[attr-defined]
        run(editor, Undo())
    undone = replay(repaired, storage.ops)
    done = Mended(harm, repaired, storage.ops, undone, mending)
    done.look()
    return done


def run(editor: Editor, action: Action) -> None:
    """One action, as :mod:`qcow.edit.apply` runs it."""
    editor.start_count("repair", action.describe())
    try:
        action.run(editor)
    except QcowError as error:
        editor.abandon(error)
        raise
