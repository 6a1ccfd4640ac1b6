"""A tiny file system whose power can be cut.

A file keeps what was written before its last fsync; of later writes any sectors may survive.
A name made, removed or changed survives a cut only up to some point after the folder's last fsync.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from qcow.edit.folder import Folder
from qcow.errors import StorageError
from qcow.storage.base import ReadableBuffer, Storage, WritableBuffer, WritableStorage

SECTOR = 512
Kind = Literal["create", "rename", "unlink", "write", "fsync", "fsync folder"]
#: Contents by name.
Files = dict[str, bytes]


@dataclass(frozen=True)
class Op:
    kind: Kind
    file: int = 0  # which file, whatever it is called
    name: str = ""
    offset: int = 0
    data: bytes = b""


class World:
    """Files now, and every operation since the start."""

    def __init__(self, files: Files) -> None:
        self.start = dict(files)
        self.names = {name: number for number, name in enumerate(files)}
        self.contents = [bytearray(data) for data in files.values()]
        self.log: list[Op] = []
        #: Fail the operation with this number in the log, and every later one of its kind.
        self.fail_at: int | None = None
        self._failed: Kind | None = None

    def do(self, op: Op) -> None:
        if len(self.log) == self.fail_at:
            self._failed = op.kind
        if op.kind == self._failed:
            raise StorageError(f"Could not {op.kind}: Input/output error")
        self.log.append(op)
        _perform(op, self.names, self.contents)

    @property
    def files(self) -> Files:
        return {name: bytes(self.contents[number]) for name, number in self.names.items()}

    def after_crashes(self, rng: random.Random, *, samples: int = 24) -> Iterator[Files]:
        """What the disk may hold after a cut anywhere, each once."""
        seen: set[tuple[tuple[str, bytes], ...]] = set()
        for end in range(len(self.log) + 1):
            for files in self._crash(self.log[:end], rng, samples):
                key = tuple(sorted(files.items()))
                if key not in seen:
                    seen.add(key)
                    yield files

    def _crash(self, log: Sequence[Op], rng: random.Random, samples: int) -> Iterator[Files]:
        synced = max((at for at, op in enumerate(log) if op.kind == "fsync folder"), default=-1)
        naming = [at for at, op in enumerate(log) if op.kind in ("create", "rename", "unlink")]
        sure = [at for at in naming if at < synced]
        unsure = [at for at in naming if at > synced]
        durable, volatile = [], []
        for at, op in enumerate(log):
            if op.kind == "write":
                kept = any(o.kind == "fsync" and o.file == op.file for o in log[at:])
                (durable if kept else volatile).append(op)
        pieces = [piece for op in volatile for piece in _pieces(op)]
        for kept_names in range(len(unsure) + 1):
            alive = [log[at] for at in (*sure, *unsure[:kept_names])]
            for chosen in _subsets(len(pieces), rng, samples):
                names = {name: number for number, name in enumerate(self.start)}
                contents = [bytearray(data) for data in self.start.values()]
                contents += [bytearray() for _ in range(len(self.contents) - len(contents))]
                for op in (*alive, *durable, *(pieces[at] for at in chosen)):
                    _perform(op, names, contents)
                yield {name: bytes(contents[number]) for name, number in names.items()}


def _perform(op: Op, names: dict[str, int], contents: list[bytearray]) -> None:
    if op.kind == "create":
        names[op.name] = op.file
        if op.file == len(contents):
            contents.append(bytearray())
    elif op.kind == "unlink":
        names.pop(op.name, None)
    elif op.kind == "rename":
        old, new = op.name.split("\0")
        names[new] = names.pop(old)
    elif op.kind == "write":
        content = contents[op.file]
        content.extend(bytes(max(0, op.offset - len(content))))
        content[op.offset : op.offset + len(op.data)] = op.data


def _pieces(op: Op) -> Iterator[Op]:
    at = 0
    while at < len(op.data):
        end = min(len(op.data), ((op.offset + at) // SECTOR + 1) * SECTOR - op.offset)
        yield Op("write", op.file, "", op.offset + at, op.data[at:end])
        at = end


def _subsets(count: int, rng: random.Random, samples: int) -> Iterator[Sequence[int]]:
    everything = range(count)
    if count <= 6:
        for size in range(count + 1):
            yield from itertools.combinations(everything, size)
        return
    for cut in range(count + 1):
        yield everything[:cut]
        yield everything[cut:]
    for _ in range(samples):
        yield [at for at in everything if rng.random() < 0.5]


class WorldFolder(Folder):
    """The folder everything of a world lies in."""

    def __init__(self, world: World) -> None:
        self._world = world

    def shown(self, name: str) -> str:
        return name

    def names(self) -> list[str]:
        return sorted(self._world.names)

    def exists(self, name: str) -> bool:
        return name in self._world.names

    def read(self, name: str, limit: int) -> bytes | None:
        data = self._world.files.get(name)
        assert data is None or len(data) <= limit
        return data

    def create(self, name: str, data: bytes) -> None:
        world = self._world
        if name in world.names:
            raise StorageError(f"Could not write '{name}': File exists")
        number = len(world.contents)
        world.do(Op("create", number, name))
        world.do(Op("write", number, "", 0, data))
        world.do(Op("fsync", number))
        world.do(Op("fsync folder"))

    def rename(self, old: str, new: str) -> None:
        self._world.do(Op("rename", 0, f"{old}\0{new}"))
        self._world.do(Op("fsync folder"))

    def remove(self, name: str) -> None:
        if name in self._world.names:
            self._world.do(Op("unlink", 0, name))
            self._world.do(Op("fsync folder"))


class WorldStorage(WritableStorage):
    """One file of a world as an image."""

    path = None

    def __init__(self, world: World, name: str = "img") -> None:
        self._world = world
        self._number = world.names[name]
        self.name = name
        self.mtime_ns = 1

    @property
    def _data(self) -> bytearray:
        return self._world.contents[self._number]

    def size(self) -> int:
        return len(self._data)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._data[offset : offset + length])

    def read_into(self, offset: int, buffer: WritableBuffer) -> int:
        found = self.read(offset, len(buffer))
        memoryview(buffer)[: len(found)] = found
        return len(found)

    def extents(
        self, offset: int = 0, length: int | None = None
    ) -> Iterator[tuple[int, int, bool]]:
        yield offset, len(self._data) - offset, True

    def allocated_bytes(self) -> int | None:
        return None

    def identity(self) -> tuple[int, int] | None:
        return 7, 42 + self._number

    def modified(self) -> tuple[int, int]:
        return len(self._data), self.mtime_ns

    def close(self) -> None:
        pass

    def write(self, offset: int, data: ReadableBuffer) -> None:
        self._world.do(Op("write", self._number, "", offset, bytes(data)))
        self.mtime_ns += 1

    def flush(self) -> None:
        self._world.do(Op("fsync", self._number))

    def truncate(self, length: int) -> None:
        raise AssertionError("no switch truncates")

    def punch(self, offset: int, length: int) -> None:
        raise AssertionError("no switch punches")

    def allocate(self, offset: int, length: int) -> None:
        raise AssertionError("no switch allocates")

    def copy(self, source: Storage, source_offset: int, offset: int, length: int) -> None:
        raise AssertionError("no switch copies")
