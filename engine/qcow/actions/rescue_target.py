"""The two files that a rescue writes: the disk and, beside it, the map of what was read."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

from ..chain import Chain
from ..edit.locking import lock_for_writing
from ..errors import EditRefused, FormatError
from ..storage.creating import NewFile
from ..storage.identity import identity_of
from ..storage.small_files import read_small_file, write_small_file
from ..storage.writable import WritableFile
from ..text import safe, size_and_bytes
from .rescue_map import MAX_BYTES, RescueMap

_MAP_MODE: Final = 0o644


def map_path(out: str) -> str:
    """The file beside ``out`` that says what of it was read."""
    return f"{out}.map"


def require_apart(out: str, chain: Chain) -> None:
    """Raise EditRefused when ``out`` or its map is a file that ``chain`` is read from."""
    for name in (out, map_path(out)):
        there = identity_of(name)
        for layer in chain.layers:
            if there is None or layer.image is None:
                continue
            files = (layer.image.storage, layer.data_file)
            if any(file is not None and file.identity() == there for file in files):
                raise EditRefused(f"'{safe(name)}' is a file that is read from: name another one.")


def target(
    out: str, size: int, label: str, force: bool, allow_network: bool, held: ExitStack
) -> tuple[RescueMap, WritableFile]:
    """The file to write to, as long as the disk (``size`` bytes), and what of it was read before.

    ``held`` keeps the file locked and open; ``label``: what the map says it is about.  Raises
    EditRefused, StorageError, LockedError.
    """
    there = identity_of(out) is not None
    before = read_small_file(map_path(out), MAX_BYTES)
    if there:
        access = held.enter_context(lock_for_writing(out, allow_network=allow_network))
        if access.file.is_device:
            raise EditRefused(f"'{safe(out)}' is a device: a rescue goes to a file.")
        if not force:
            return _resumed(out, before, size, label, access.file), access.file
    elif before is not None and not force:
        raise EditRefused(
            f"'{safe(map_path(out))}' is there, and '{safe(out)}', which it is about, is not: "
            "--force starts anew."
        )
    new = held.enter_context(NewFile(out))
    new.file.truncate(size)
    found = RescueMap(size)
    # First, so that no map ever claims more than the file has.
    save_map(out, found, label)
    new.publish(replace=there)
    return found, new.file


def save_map(out: str, done: RescueMap, label: str) -> None:
    """Write the map of ``out``, durably."""
    write_small_file(map_path(out), done.encode(label), _MAP_MODE)


def _resumed(
    out: str, before: bytes | None, size: int, label: str, file: WritableFile
) -> RescueMap:
    advice = "name another file, or --force to start anew."
    if before is None:
        raise EditRefused(f"'{safe(out)}' exists and has no map of a rescue beside it: {advice}")
    try:
        found = RescueMap.decode(before)
    except FormatError as error:
        raise EditRefused(f"'{safe(map_path(out))}' cannot be gone by, {error}: {advice}") from None
    if f"# {label}".encode("ascii", "replace") not in before.splitlines():
        raise EditRefused(f"'{safe(map_path(out))}' is about a rescue of another image: {advice}")
    if found.size != size or file.size() != size:
        raise EditRefused(
            f"'{safe(out)}' and its map are not as long as the disk of {size_and_bytes(size)}: "
            f"{advice}"
        )
    return found
