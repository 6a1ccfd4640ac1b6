"""The action ``create``: a new image, laid out as by QEMU; complete, or not there at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ..edit.candidate import CandidateStorage
from ..edit.locking import lock_for_writing
from ..edit.patch import Patch
from ..errors import EditRefused, QcowError, UsageError, VerificationError
from ..image.image import Image
from ..inspect.check import check
from ..jobs import CancelToken, ProgressCallback, Throttle
from ..layout.allocation import TooLarge
from ..layout.constants import SECTOR
from ..layout.new_image import NewImage
from ..opening import open as open_image
from ..record import record
from ..storage.base import Storage
from ..storage.creating import NewFile
from ..storage.gate import combine, has_protocol
from ..storage.local import open_local
from ..storage.locks import LockMode
from ..storage.writable import WritableFile
from ..text import safe, size_and_bytes
from .create_options import CreateOptions, too_large
from .create_plan import CreatePlan

#: Zeros written by one call (preallocation full), and the reach of one reservation (falloc).
_ZEROS = 1 << 20
_RESERVE = 1 << 30
_FIRST_BLOCK = 4096


def plan_create(path: str, options: CreateOptions) -> CreatePlan:
    """What creating ``path`` would make; nothing is written.

    The backing file is opened for its size and to see that it is what it is said to be, unless
    ``options.unsafe``.  Raises UsageError in QEMU's words for options that exclude each other,
    EditRefused for a path that is neither a file nor a block device.
    """
    return _prepared(path, options)[0]


def create(
    path: str,
    options: CreateOptions,
    *,
    allow_network: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> CreatePlan:
    """Create ``path``; what was made.

    A file gets its name when it is complete, checked and durable; one of that name gives way then,
    unless somebody uses it.  A block device is written in place, its first sector last.  An
    external data file comes before the image that names it; it lies where the image looks for it.

    Raises what :func:`plan_create` raises, LockedError, StorageError, NoSpaceError, ChangedError,
    VerificationError, Cancelled: the name then means what it meant before.
    """
    plan, layout = _prepared(path, options)
    job = _Job(plan.options, layout, progress, cancel)
    with ExitStack() as held:
        data = None
        if plan.data_file is not None:
            data = held.enter_context(_target(plan.data_file, allow_network))
            job.fill_data(data.storage)
        image = held.enter_context(_target(path, allow_network))
        job.fill_image(image.storage, on_device=image.on_device)
        job.verify(image.storage)
        if data is not None:
            data.publish()
        image.publish(job.first_sector)
    return plan


def _prepared(path: str, options: CreateOptions) -> tuple[CreatePlan, NewImage | None]:
    replaces = _what_is_there(path)
    options = _with_backing_size(path, options)
    options.require_possible()
    if options.size is None:
        raise UsageError("Image creation needs a size parameter")
    if options.format == "raw":
        full = options.disk_size if options.preallocation == "full" else 0
        reserved = options.disk_size if options.preallocation == "falloc" else 0
        return CreatePlan(path, options, options.disk_size, full, reserved, None, replaces), None
    try:
        layout = NewImage.lay_out(
            options.geometry(),
            options.disk_size,
            options.mode,
            data_file=options.data_file is not None,
        )
    except TooLarge:
        raise too_large() from None
    layout.header(options.header()).encode()  # whether it all fits into the header cluster
    data_file = None if options.data_file is None else _data_path(path, options.data_file)
    amount = layout.data_file_length or layout.reserved[1]
    plan = CreatePlan(
        path,
        options,
        layout.length,
        layout.metadata_bytes + (amount if options.preallocation == "full" else 0),
        amount if options.preallocation == "falloc" else 0,
        data_file,
        replaces,
    )
    return plan, layout


def _what_is_there(path: str) -> str:
    if not os.path.lexists(path):
        return ""
    if os.path.islink(path) and not os.path.exists(path):
        return ""
    with open_local(path) as file:  # says why it is neither a file nor a device
        what = "is a block device" if file.is_device else "exists"
        return f"'{safe(path)}' {what}"


def _data_path(path: str, name: str) -> str:
    """Where the image will look for its data file."""
    if has_protocol(_raw(name)):
        raise UsageError(
            f"The data file '{safe(name)}' cannot be created: this version creates files and "
            "writes to block devices only."
        )
    found = combine(path, _raw(name))
    if _same(found, path):
        raise UsageError("The image cannot be its own data file")
    if not _same(os.path.dirname(found) or ".", os.path.dirname(name) or "."):
        raise UsageError(
            f"The data file name '{safe(name)}' is relative: QEMU would look for it in its working "
            "folder, others in the image's. Give an absolute name, or work in the image's folder."
        )
    return found


def _with_backing_size(path: str, options: CreateOptions) -> CreateOptions:
    """Look at the backing file, for its format and, where none was given, its size."""
    name = options.backing_file
    if not name or options.format == "raw":
        return options
    found = combine(path, _raw(name))
    if name == path or _same(found, path):
        raise UsageError(
            "Error: Trying to create an image with the same filename as the backing file"
        )
    no_format = "Backing file specified without backing format"
    if options.unsafe:
        if options.backing_fmt is None:
            raise UsageError(no_format)
        return options
    if has_protocol(_raw(name)):
        raise UsageError(
            f"Could not open '{safe(name)}': this version opens files and block devices only.\n"
            "Could not open backing image. With -u and a size it is not looked at."
        )
    try:
        with open_image(found, format=options.backing_fmt, lock=LockMode.READER) as backing:
            if isinstance(backing, Image) and backing.refused is not None:
                raise UsageError(backing.refused.what)
            if options.backing_fmt is None:
                raise UsageError(f"{no_format}\nDetected format of {backing.format}.")
            size = backing.virtual_size
    except QcowError as error:
        if str(error).startswith(no_format):
            raise
        said, prefix = str(error), f"Could not open '{safe(found)}': "
        said = said if said.startswith(prefix) else prefix + said
        raise UsageError(f"{said}\nCould not open backing image.") from error
    return options if options.size is not None else options.with_size(size)


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return os.path.realpath(one) == os.path.realpath(other)


@record
class _Target:
    """Where bytes go: a file without a name yet, or a device."""

    storage: WritableFile
    new: NewFile | None
    replace: bool

    @property
    def on_device(self) -> bool:
        return self.new is None

    def publish(self, first_sector: bytes = b"") -> None:
        """Let the name mean what was written; on a device ``first_sector`` does that."""
        if self.new is not None:
            self.new.publish(replace=self.replace)
            return
        self.storage.flush()
        if first_sector:
            self.storage.write(0, first_sector)
            self.storage.flush()


@contextmanager
def _target(path: str, allow_network: bool) -> Iterator[_Target]:
    """A place for a new image; what has the name now is held against everybody else."""
    with ExitStack() as held:
        exists = os.path.exists(path)
        if exists:
            access = held.enter_context(lock_for_writing(path, allow_network=allow_network))
            if access.file.is_device:
                yield _Target(access.file, None, True)
                return
        new = held.enter_context(NewFile(path))
        yield _Target(new.file, new, exists)


class _Job:
    """Writes one image."""

    def __init__(
        self,
        options: CreateOptions,
        layout: NewImage | None,
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> None:
        self._options = options
        self._layout = layout
        self._report = Throttle(progress)
        self._cancel = cancel
        #: Kept back on a device, where writing it makes the image.
        self.first_sector = b""

    def fill_data(self, storage: WritableFile) -> None:
        """The external data file: as long as the disk, and allocated if that is wanted."""
        assert self._layout is not None
        self._fill(storage, self._layout.data_file_length or 0)
        self._write_tail(storage, self._layout)

    def fill_image(self, storage: WritableFile, *, on_device: bool) -> None:
        """Everything but, on a device, the first sector."""
        layout = self._layout
        if on_device:
            self._require_room(storage)
            storage.write(0, bytes(SECTOR))  # what was there is an image no longer
            storage.flush()
        if layout is None:
            if not on_device:
                self._fill(storage, self._options.disk_size)
            elif self._options.preallocation == "full":
                self._allocate(storage, 0, self._options.disk_size)
            return
        if not on_device:
            storage.truncate(layout.length)
        if layout.reserved[1]:
            self._allocate(storage, *layout.reserved)
        if layout.data_file_length is None:
            self._write_tail(storage, layout)
        size = layout.geometry.cluster_size
        header = layout.header(self._options.header()).encode().ljust(size, b"\0")
        done = 0
        for offset, data in layout.tables():
            self._step("writing tables", done, layout.metadata_bytes)
            storage.write(offset, data)
            if on_device and len(data) % size:
                storage.write(offset + len(data), bytes(-len(data) % size))
            done += len(data)
        if on_device:
            self.first_sector = header[:SECTOR]
            storage.write(SECTOR, header[SECTOR:])
        else:
            storage.write(0, header)

    def verify(self, storage: Storage) -> None:
        """Check what was written as an independent reader sees it.  Raises VerificationError."""
        if self._layout is None:
            return
        seen: Storage = storage
        if self.first_sector:
            patch = Patch(0, bytes(SECTOR), self.first_sector)
            seen = CandidateStorage(storage, (patch,))
        result = check(Image(seen), cancel=self._cancel, decode=False)
        if result.exit_code:
            raise VerificationError(
                f"The new image did not pass its check ({result.corruptions} errors, "
                f"{result.leaks} leaks) and was not put in place. Please report this."
            )

    def _fill(self, storage: WritableFile, length: int) -> None:
        """A disk that reads zeros; its first block is there, as QEMU has it.

        (By that block a program finds out how requests have to be aligned.)
        """
        if not storage.is_device:
            storage.truncate(length)
            storage.write(0, bytes(min(length, _FIRST_BLOCK)))
        self._allocate(storage, 0, length)

    def _write_tail(self, storage: WritableFile, layout: NewImage) -> None:
        start, end = layout.tail
        if start < end:
            storage.write(start, bytes(end - start))

    def _allocate(self, storage: WritableFile, offset: int, length: int) -> None:
        mode = self._options.preallocation
        if mode == "falloc":
            for at in range(0, length, _RESERVE):
                self._step("reserving space", at, length)
                storage.allocate(offset + at, min(_RESERVE, length - at))
        elif mode == "full":
            zeros = memoryview(bytes(_ZEROS))
            for at in range(0, length, _ZEROS):
                self._step("writing zeros", at, length)
                storage.write(offset + at, zeros[: length - at])

    def _require_room(self, storage: WritableFile) -> None:
        layout, room = self._layout, storage.size()
        needed = self._options.disk_size if layout is None else layout.length
        if needed > room:
            raise EditRefused(
                f"'{safe(storage.name)}' has {size_and_bytes(room)}; the image needs "
                f"{size_and_bytes(needed)}."
            )

    def _step(self, phase: str, done: int, total: int) -> None:
        if self._cancel is not None:
            self._cancel.check()
        self._report(phase, done, total, "bytes")


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
