"""Whether a file can be the backing file of an image: what speaks for it and what against it.

An image records nothing of what its backing file held, so nothing here is a proof.
"""

from __future__ import annotations

import difflib
import os
from typing import NamedTuple

import numpy as np

from ..chain import Chain, LayerStatus
from ..disk import ExtentKind
from ..errors import GuestDataError, QcowError, ReferenceMissing, ReferenceRefused
from ..image.image import Image
from ..inspect.signatures import Signatures, signatures
from ..jobs import CancelToken, ProgressCallback, Throttle
from ..record import record
from ..storage.gate import Gate, list_candidates
from ..storage.identity import identity_of
from ..storage.locks import LockMode
from ..text import safe, size_and_bytes
from ..text import size as size_of
from .new_base import found_format, open_over

#: Files looked at in one folder.
MAX_CANDIDATES = 1000
_SIMILAR = 0.6
_RAW_ENDINGS = (".raw", ".img", ".bin", ".iso", ".dd")


class Evidence(NamedTuple):
    """Sentences, safe to show.  Doubts are reasons to refuse the file, ``score`` ranks it."""

    speaks_for: tuple[str, ...]
    doubts: tuple[str, ...]  # about its content
    format_doubt: str = ""  # it is not of the stated format
    score: int = 0

    @property
    def all_doubts(self) -> tuple[str, ...]:
        return (self.format_doubt, *self.doubts) if self.format_doubt else self.doubts


@record
class Candidate:
    """A file that could be the backing file.  ``path`` is raw text."""

    path: str
    name: str  # as the image would record it: relative to its own folder where that is shorter
    format: str
    virtual_size: int  # bytes
    speaks_for: tuple[str, ...]
    doubts: tuple[str, ...]
    score: int


def evidence(over: Chain, stated_format: str | None) -> Evidence:
    """Judge the file in ``over.layers[1]`` as the base of the image on top."""
    image, base = over.image, over.layers[1]
    assert isinstance(image, Image)
    speaks: list[str] = []
    doubts: list[str] = []
    score = 0
    found = found_format(over)
    wrong = stated_format is not None and stated_format != found
    format_doubt = (
        f"It is stated to be {safe(stated_format or '')}, and by its first bytes it is {found}."
        if wrong
        else ""
    )
    if base.disk is None:
        doubts.append(f"Its disk cannot be read. {base.reason}")
        return Evidence((), tuple(doubts), format_doubt, -10)
    broken = next((layer for layer in over.layers[2:] if layer.status is not LayerStatus.OK), None)
    if broken is not None and broken.status is not LayerStatus.REFUSED:
        doubts.append(f"It needs a backing file itself, which is not there. {broken.reason}")
    needed_end, needed, provided = _read_through(over)
    length = base.disk.virtual_size
    if needed and not provided and broken is None:
        doubts.append(
            f"It is empty where the image reads through it: {size_of(needed)} below "
            f"{needed_end:#x} would read as zeros."
        )
    elif provided:
        speaks.append(
            f"It holds data for {size_of(provided)} of the {size_of(needed)} that the image lacks."
        )
        score += 3
    signs = Signatures((), ())
    try:
        signs = signatures(over)
    except (GuestDataError, ReferenceRefused, ReferenceMissing) as error:
        speaks.append(f"The file systems on it could not be looked at. {error}")
    else:
        speaks += [f"Reading through it shows: {name}." for name in signs.found]
        doubts += signs.doubts
        score += 4 * bool(signs.found)
    if length == image.virtual_size:
        speaks.append("Its disk has the same size.")
        score += 2
    elif length < needed_end and not signs.found:
        # Growing an overlay is common, so a disk that makes sense settles it.
        doubts.append(
            f"Its disk of {size_and_bytes(length)} ends before what the image reads through it, "
            f"which reaches up to {needed_end:#x}, and nothing on it tells that it belongs to this "
            "image."
        )
    score -= 10 * (len(doubts) + wrong)
    return Evidence(tuple(speaks), tuple(doubts), format_doubt, score)


def _read_through(over: Chain) -> tuple[int, int, int]:
    """(end of what the top lacks, its bytes, those of them for which the base stores data)."""
    end = needed = provided = 0
    for batch in over.runs():
        below = (batch.depth > 0) | (batch.kind == ExtentKind.UNALLOCATED)
        if not below.any():
            continue
        last = int(np.flatnonzero(below)[-1])
        end = int(batch.start[last] + batch.length[last])
        needed += int(batch.length[below].sum())
        stored = (batch.kind == ExtentKind.DATA) | (batch.kind == ExtentKind.COMPRESSED)
        provided += int(batch.length[below & stored].sum())
    return end, needed, provided


def candidates(
    image: Image,
    folder: str | os.PathLike[str],
    *,
    gate: Gate | None = None,
    limit: int = MAX_CANDIDATES,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> tuple[Candidate, ...]:
    """Files in ``folder`` that could be the base of ``image``, the likeliest first.

    Each is opened for reading without a lock; its own backing file only where ``gate`` lets it.
    Files that are not images are left out, as are those built on ``image``.  Raises StorageError
    when the folder cannot be listed, Cancelled.
    """
    paths = list_candidates(folder, limit, follow_links=True)
    report = Throttle(progress)
    found = []
    for number, path in enumerate(paths, 1):
        if cancel is not None:
            cancel.check()
        report("looking at candidates", number, len(paths), "files")
        candidate = _candidate(image, path, gate or Gate.own_folder())
        if candidate is not None:
            found.append(candidate)
    return tuple(sorted(found, key=lambda one: (-one.score, one.path)))


def _candidate(image: Image, path: str, gate: Gate) -> Candidate | None:
    recorded = image.backing
    own = image.storage.identity()
    if own is not None and identity_of(path) == own:
        return None
    wanted = os.path.basename(os.fsdecode(recorded.name)) if recorded is not None else ""
    stated = os.fsdecode(recorded.format or b"") if recorded is not None else ""
    alike = _alike(os.path.basename(path), wanted)
    name = os.fsencode(os.path.abspath(path))
    try:
        with open_over(image, name, None, gate, LockMode.SNOOP) as over:
            base = over.layers[1].image
            assert base is not None
            looks_raw = path.lower().endswith(_RAW_ENDINGS) or stated == "raw" or alike == 1
            if base.format == "raw" and not (looks_raw and base.storage.size()):
                return None
            judged = evidence(over, base.format)
            format, size = base.format, base.virtual_size
    except QcowError:
        return None
    speaks = list(judged.speaks_for)
    if alike == 1:
        speaks.insert(0, "It has the recorded name.")
    elif alike:
        speaks.insert(0, f"Its name resembles the recorded one ('{safe(wanted)}').")
    if stated == format:
        speaks.append("It has the recorded format.")
    return Candidate(
        path=path,
        name=recorded_name(image, path),
        format=format,
        virtual_size=size,
        speaks_for=tuple(speaks),
        doubts=judged.all_doubts,
        score=judged.score + int(4 * alike) + 2 * (stated == format),
    )


def recorded_name(image: Image, path: str) -> str:
    """How ``image`` should name ``path``: relative when it lies in its folder or below it."""
    folder = os.path.dirname(os.path.abspath(image.storage.path or image.name))
    relative = os.path.relpath(os.path.abspath(path), folder)
    above = relative == os.pardir or relative.startswith(os.pardir + os.sep)
    return os.path.abspath(path) if above or ":" in relative.partition("/")[0] else relative


def _alike(name: str, wanted: str) -> float:
    """How much two file names resemble each other: 1 is equal, 0 not at all."""
    if not wanted:
        return 0
    if name == wanted:
        return 1
    one, other = (os.path.splitext(text)[0].lower() for text in (name, wanted))
    if one and other and (one in other or other in one):
        return 0.75
    ratio = difflib.SequenceMatcher(None, one, other).ratio()
    return ratio / 2 if ratio >= _SIMILAR else 0
