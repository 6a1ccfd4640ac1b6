"""Keeping everybody else out while an image is changed.

The order, for each file that is written: open it for writing, take QEMU's locks as a writer that
shares with nobody, then look for those who hold no lock.  Files that are only read stay locked as
by any reader.  All of it ends together, in :meth:`WriteAccess.close`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import ExitStack

from ..chain.disk import Chain
from ..chain.layer import Layer, LayerStatus
from ..closing import Closing
from ..errors import ChangedError, EditRefused, LockedError, StorageError
from ..record import record
from ..storage.base import Storage
from ..storage.holders import Holder, holders
from ..storage.host_calls import network_file_system
from ..storage.identity import identity_of
from ..storage.local import OPEN_FLAGS, LocalFile, open_descriptor, same_descriptor_path
from ..storage.locks import ImageLock, LockMode, ReadersAside, probe
from ..storage.writable import WritableFile, open_local_writable, reopen_writable
from ..text import safe

_UNLOCKABLE = "'{}' can only be read: its file system has no locks by which QEMU could be kept out."


@record
class LockReport:
    """What stands in nobody's way and yet should be known before the change is made."""

    #: Others that have a file to be changed open for reading only; they hold no lock.
    readers: tuple[Holder, ...] = ()
    #: Processes whose open files this user may not see: one of them could write without a lock.
    hidden: int = 0
    #: A network or user-space file system that was allowed: locks may not reach other machines.
    network: tuple[str, ...] = ()
    #: Files below the image that could not be opened and so are not locked; why, safe to show.
    unlocked: tuple[str, ...] = ()


class WriteAccess(Closing):
    """Files held for writing, and everything that was locked with them, until it is closed.

    ``file`` is the image.  A file of the chain that is changed as well is in ``layers`` by its
    depth (0 is the image); external data files of all of these are in ``data_files``.
    """

    def __init__(
        self,
        layers: dict[int, WritableFile],
        data_files: dict[int, WritableFile],
        report: LockReport,
        held: ExitStack,
    ) -> None:
        self.file = layers[0]
        self.layers = layers
        self.data_files = data_files
        self.report = report
        self._held = held

    def check_place(self) -> None:
        """Raise ChangedError unless the path of every file changed still leads to that file.

        For the moment before a switch: a file that was renamed or replaced is no longer the image.
        """
        for file in (*self.layers.values(), *self.data_files.values()):
            _check_place(file)

    def close(self) -> None:
        """Give the locks back and close the files; the readers of this process lock again."""
        self._held.close()


def lock_for_writing(
    path: str,
    *,
    chain: Chain | None = None,
    also: Collection[int] = (),
    below: Iterable[LocalFile] = (),
    own: Iterable[LocalFile] = (),
    allow_network: bool = False,
) -> WriteAccess:
    """Open the image ``path`` for writing with everybody else kept out.

    ``chain`` is its open chain, whose files are all locked: those at the depths ``also`` (a base
    to be committed to) for writing, the others as by a reader.  Without it only the image is
    locked.  ``below`` are further open files to keep from being written to (a new base).

    ``own`` are files open in this process whose locks would be in the way, such as that of the
    image on the screen: their locks are off until the access is closed; between the two nobody
    else gets in.  Files of ``chain`` count without being named.

    The caller compares the image with what its plan was made on: a stranger may have written
    before this call.

    Raises LockedError (somebody uses a file), EditRefused (a network file system, unless
    ``allow_network``; a file system without locks), ChangedError (``path`` is not the file that
    ``chain`` was opened on), StorageError (it cannot be opened for writing).
    """
    layers = () if chain is None else chain.layers
    mine = [*own, *_files(layers)]
    with ExitStack() as held:
        taking = _Taking(held, mine, allow_network)
        image = open_local_writable(path)
        held.callback(image.close)
        top = layers[0].image if layers else None
        if top is not None and top.storage.identity() != image.identity():
            raise ChangedError(
                f"'{safe(path)}' is another file than the one that was looked at: open it again."
            )
        taking.write(image)
        written, data_files = {0: image}, {}
        for layer in layers:
            changed = layer.depth == 0 or layer.depth in also
            if layer.depth and changed:
                written[layer.depth] = taking.reopen(_opened(layer))
            elif layer.depth:
                taking.read_layer(layer)
            if isinstance(layer.data_file, LocalFile):
                if changed:
                    data_files[layer.depth] = taking.reopen(layer.data_file)
                else:
                    taking.read(layer.data_file)
        for file in below:
            taking.read(file)
        return WriteAccess(written, data_files, taking.report(), held.pop_all())


class _Taking:
    """Locks one file after the other and notes what there is to tell."""

    def __init__(self, held: ExitStack, own: list[LocalFile], allow_network: bool) -> None:
        self._held = held
        self._own = own
        self._allow_network = allow_network
        self._readers: list[Holder] = []
        self._hidden = 0
        self._network: list[str] = []
        self._unlocked: list[str] = []
        self._written: set[tuple[int, int]] = set()

    def report(self) -> LockReport:
        return LockReport(
            tuple(self._readers), self._hidden, tuple(self._network), tuple(self._unlocked)
        )

    def reopen(self, file: LocalFile) -> WritableFile:
        """The file opened for writing, under the writer's lock."""
        opened = reopen_writable(file)
        self._held.callback(opened.close)
        self.write(opened)
        return opened

    def write(self, file: WritableFile) -> None:
        """Keep everybody else out of ``file``."""
        self._refuse_network(file)
        lock, fd = ImageLock(), file.fileno()
        aside = ReadersAside(one for one in self._own if one.identity() == file.identity())
        self._held.callback(lock.release)
        # So that nobody writes between the end of the readers' locks and the writer's.
        lock.share(fd, aside)
        self._held.callback(aside.come_back)
        aside.step_aside()
        lock.acquire(fd, LockMode.WRITER, file.name)
        self._held.callback(lock.acquire, fd, LockMode.READER, file.name)
        if not lock.effective:
            raise EditRefused(_UNLOCKABLE.format(safe(file.name)))
        self._written.add(file.identity())
        self._look_around(file)
        _check_place(file)

    def read_layer(self, layer: Layer) -> None:
        """Keep writers out of a file of the chain."""
        if layer.image is None:
            if layer.status is LayerStatus.IN_USE:
                raise LockedError(layer.reason)
            self._unlocked.append(layer.reason)
        elif isinstance(layer.image.storage, LocalFile):
            self.read(layer.image.storage)

    def read(self, file: LocalFile) -> None:
        """Keep writers out of ``file``, by a lock of its own that outlasts the caller's file."""
        if file.identity() in self._written:
            return
        opened = LocalFile(open_descriptor(same_descriptor_path(file), OPEN_FLAGS)[0], file.name)
        self._held.callback(opened.close)
        lock = ImageLock().acquire(opened.fileno(), LockMode.READER, file.name)
        if not lock.effective:
            self._unlocked.append(_UNLOCKABLE.format(safe(file.name)))

    def _refuse_network(self, file: WritableFile) -> None:
        try:
            kind = network_file_system(file.fileno())
        except OSError as error:
            raise StorageError(
                f"Could not find out the file system of '{safe(file.name)}': {error.strerror}"
            ) from error
        if kind is None:
            return
        if not self._allow_network:
            raise EditRefused(
                f"'{safe(file.name)}' lies on a network file system ({kind}), where a lock may not "
                "keep out other machines: allow it (--allow-network) when no other machine uses "
                "the image."
            )
        self._network.append(kind)

    def _look_around(self, file: WritableFile) -> None:
        """Find those who use ``file`` without QEMU's locks."""
        shown = safe(file.name)
        if probe(file.fileno()).libvirt:
            raise LockedError(f"'{shown}' is in use: libvirt's lock manager holds it for a guest.")
        found, hidden = holders(same_descriptor_path(file))
        writers = [one for one in found if one.writing]
        if writers:
            names = ", ".join(f"{one.command} ({_who(one)})" for one in writers)
            raise LockedError(f"'{shown}' is open for writing without a lock, by {names}.")
        self._readers += found
        self._hidden = max(self._hidden, hidden)


def _who(holder: Holder) -> str:
    return f"process {holder.pid}" if holder.pid else "the system"


def _check_place(file: LocalFile) -> None:
    if identity_of(file.name) != file.identity():
        raise ChangedError(
            f"'{safe(file.name)}' was moved or replaced while it was open: open it again."
        )


def _files(layers: Iterable[Layer]) -> list[LocalFile]:
    """Every local file that is open for ``layers``."""
    found: list[Storage | None] = []
    for layer in layers:
        found += [None if layer.image is None else layer.image.storage, layer.data_file]
    return [file for file in found if isinstance(file, LocalFile)]


def _opened(layer: Layer) -> LocalFile:
    """The open file of a layer that is to be changed."""
    storage = None if layer.image is None else layer.image.storage
    if isinstance(storage, LocalFile):
        return storage
    if layer.status is LayerStatus.IN_USE:
        raise LockedError(layer.reason)
    raise EditRefused(f"'{layer.shown}' cannot be changed. {layer.reason}")
