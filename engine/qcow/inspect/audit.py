"""Is an image from somebody else safe to hand to programs?  Named checks, each passed or failed.

Meant for uploads: whoever made the image may want a host to read other files, to hang, to run out
of memory, or to write to somebody's terminal.  Only the image itself is opened, and of it only the
header cluster, the snapshot table, the bitmap directory and the LUKS header are read: whether every
table entry is sound is for a check to say.

What an image may not have follows OpenStack's format inspector: no backing file, no data file, no
feature nobody knows.  As there, encryption alone is no reason to refuse an image.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from ..errors import ReferenceRefused, UnsupportedFormat
from ..findings import Finding, FindingKind, Severity
from ..formats.probe import PROBE_LENGTH, probe
from ..image.image import Image
from ..layout import problems as P
from ..layout.constants import CRYPT_AES, DATA_FILE_RAW
from ..opening import READABLE, AnyImage, open_storage
from ..record import record
from ..storage.base import Storage
from ..storage.gate import has_protocol, resolve
from ..storage.identity import identity_of
from ..storage.local import open_local
from ..storage.locks import ImageLock, LockMode
from ..text import plural, safe, size_and_bytes
from .polyglot import other_format

#: Names in reasons are cut to this many characters.
_SHOWN = 80


@record
class AuditPolicy:
    """What the caller allows."""

    format: str | None = None  # what the file is said to be; None: qcow2 or raw
    max_virtual_size: int | None = None  # bytes
    allow_encryption: bool = True


@record
class AuditCheck:
    """One check; ``reason`` says what was found, in a sentence that is safe to show."""

    name: str
    passed: bool
    reason: str


@record
class AuditReport:
    """``path`` is raw text; ``format`` is what the first bytes say."""

    path: str
    format: str
    checks: tuple[AuditCheck, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[AuditCheck, ...]:
        return tuple(check for check in self.checks if not check.passed)


def audit(
    path: str | os.PathLike[str],
    policy: AuditPolicy | None = None,
    *,
    lock: LockMode = LockMode.READER,
) -> AuditReport:
    """Judge the file at ``path``.

    Raises StorageError when it cannot be opened or read, LockedError when somebody writes to it.
    """
    policy = policy or AuditPolicy()
    with open_local(path) as storage:
        ImageLock().acquire(storage.fileno(), lock, storage.name)
        found = probe(storage.read(0, PROBE_LENGTH))
        checks = [_format(found, storage, policy)]
        if found in READABLE:
            checks += _checks(open_storage(storage, format=found), policy)
        return AuditReport(os.fspath(path), found, tuple(checks))


def audit_image(image: AnyImage, policy: AuditPolicy | None = None) -> AuditReport:
    """The same for an image that is open already."""
    policy = policy or AuditPolicy()
    first = _format(image.format, image.storage, policy)
    return AuditReport(image.name, image.format, (first, *_checks(image, policy)))


def _format(found: str, storage: Storage, policy: AuditPolicy) -> AuditCheck:
    wanted = (policy.format,) if policy.format is not None else READABLE
    if policy.format is not None and policy.format not in READABLE:
        raise UnsupportedFormat(
            f'Files of format "{safe(policy.format)}" cannot be audited; this version knows '
            f"{' and '.join(READABLE)}."
        )
    if storage.size() == 0:
        return AuditCheck("format", False, "The file is empty.")
    if found not in wanted:
        reason = f"The file is {found} by its first bytes; {' or '.join(wanted)} is accepted."
        return AuditCheck("format", False, reason)
    if found == "raw":
        reason = (
            "The file has no header that is known, so it counts as raw; hand it on only with its "
            "format stated."
        )
        return AuditCheck("format", True, reason)
    return AuditCheck("format", True, f"The file is {found}.")


def _checks(image: AnyImage, policy: AuditPolicy) -> Iterator[AuditCheck]:
    if not isinstance(image, Image):
        yield _virtual_size(image.virtual_size, (), policy)
        return
    audited = _Audited(image)
    yield audited.check(
        "ambiguous-format",
        other_format(image),
        "No other format is recognised in the header cluster.",
    )
    yield audited.check_findings(
        "header",
        "The header and its extensions are well formed.",
        structures=("header", "header extensions"),
        apart_from=_ELSEWHERE,
        also=(P.EXTENSION_DUPLICATE, P.EXTENSION_ODD),
    )
    yield audited.check_findings(
        "unknown-features", "Every incompatible feature is known.", kinds=(P.FEATURE_UNKNOWN,)
    )
    yield audited.check_findings(
        "corrupt-mark", "The image is not marked corrupt.", kinds=(P.CORRUPT_BIT,)
    )
    yield _virtual_size(image.header.size, audited.of((P.SIZE_TOO_BIG,)), policy)
    yield audited.check_findings(
        "l1-table", "The L1 table lies in the file.", kinds=(P.L1_INVALID, P.L1_CUT)
    )
    yield audited.check(
        "refcount-table",
        audited.first((P.REFCOUNT_TABLE_INVALID,)) or _refcount_table_outside(image),
        "The refcount table lies in the file.",
    )
    yield audited.check_findings(
        "snapshots",
        f"{plural(len(image.snapshots), 'snapshot')}, none of them odd.",
        kinds=(P.SNAPSHOT_TABLE_INVALID, P.SNAPSHOT_ENTRY, P.SNAPSHOT_ODD),
    )
    yield audited.check_findings(
        "bitmaps",
        f"{plural(len(image.bitmaps), 'bitmap')}, all well formed.",
        kinds=(P.BITMAPS_INVALID,),
    )
    yield audited.check("protocol-name", _protocol_name(image), "No name is a protocol.")
    yield audited.check("self-reference", _self_reference(image), "It does not refer to itself.")
    yield audited.check("backing-file", _backing_file(image), "It has no backing file.")
    yield audited.check("data-file", _data_file(image), "It has no external data file.")
    yield audited.check(
        "encryption",
        audited.first((P.ENCRYPTION_METHOD, P.CRYPTO_HEADER, P.LUKS_INVALID))
        or _luks_header_outside(image)
        or _refused_encryption(image, policy),
        f"It is encrypted ({image.encryption}): nobody can look at its contents without the key."
        if image.encryption
        else "It is not encrypted.",
    )
    yield audited.check_findings(
        "key-derivation", "No key derivation is extreme.", kinds=(P.LUKS_COSTLY,)
    )
    yield audited.check("strings", _hostile_string(image), "Every name is plain text.")


#: Checks that need no more than the header's own fields.
_JUDGED_ANYWAY = frozenset({"ambiguous-format", "header", "unknown-features", "corrupt-mark"})
#: Kinds of findings about the header that checks of their own report.
_ELSEWHERE = (
    P.FEATURE_UNKNOWN,
    P.FEATURE_UNKNOWN_HARMLESS,
    P.CORRUPT_BIT,
    P.SIZE_TOO_BIG,
    P.ENCRYPTION_METHOD,
)


class _Audited:
    """An image and what opening it found."""

    def __init__(self, image: Image) -> None:
        self._findings = image.problems
        #: Nothing behind the header could be read; whatever was not read has not passed.
        self._unread = image.geometry is None

    def of(self, kinds: Iterable[FindingKind]) -> tuple[Finding, ...]:
        wanted = tuple(kinds)
        return tuple(finding for finding in self._findings if finding.kind in wanted)

    def first(self, kinds: Iterable[FindingKind]) -> str | None:
        """What the gravest of these findings says, and how many there are besides."""
        found = self.of(kinds)
        if not found:
            return None
        return found[0].what + (f" (And {len(found) - 1} more.)" if len(found) > 1 else "")

    def check(self, name: str, fault: str | None, passed: str) -> AuditCheck:
        if fault is not None:
            return AuditCheck(name, False, fault)
        if self._unread and name not in _JUDGED_ANYWAY:
            return AuditCheck(name, False, "Not looked at: the header cannot be interpreted.")
        return AuditCheck(name, True, passed)

    def check_findings(
        self,
        name: str,
        passed: str,
        *,
        kinds: tuple[FindingKind, ...] = (),
        structures: tuple[str, ...] = (),
        apart_from: tuple[FindingKind, ...] = (),
        also: tuple[FindingKind, ...] = (),
    ) -> AuditCheck:
        """Fails by any finding of ``kinds`` or ``also``, or a grave one about ``structures``."""
        grave = (
            finding.kind
            for finding in self._findings
            if finding.structure in structures and finding.severity >= Severity.CORRUPTION
        )
        wanted = {*kinds, *also, *grave}.difference(apart_from)
        return self.check(name, self.first(wanted), passed)


def _virtual_size(size: int, found: tuple[Finding, ...], policy: AuditPolicy) -> AuditCheck:
    if found:
        return AuditCheck("virtual-size", False, found[0].what)
    limit = policy.max_virtual_size
    if limit is not None and size > limit:
        return AuditCheck(
            "virtual-size",
            False,
            f"The virtual size is {size_and_bytes(size)}; at most {size_and_bytes(limit)} are "
            "accepted.",
        )
    return AuditCheck("virtual-size", True, f"The virtual size is {size_and_bytes(size)}.")


def _refcount_table_outside(image: Image) -> str | None:
    length = image.header.refcount_table_clusters << image.header.cluster_bits
    return _outside(image, "refcount table", image.header.refcount_table_offset + length)


def _luks_header_outside(image: Image) -> str | None:
    if image.crypto is None:
        return None
    return _outside(image, "LUKS header", image.crypto.offset + image.crypto.length)


def _outside(image: Image, what: str, end: int) -> str | None:
    geometry = image.geometry
    if geometry is None:
        return None
    present = geometry.clusters(image.storage.size()) << geometry.cluster_bits
    return f"The {what} ends at {end:#x}, beyond the end of the file." if end > present else None


def _names(image: Image) -> Iterator[tuple[str, bytes]]:
    """The names of other files, and what each of them is."""
    if image.backing is not None:
        yield "backing file", image.backing.name
    if image.data_file is not None:
        yield "data file", image.data_file


def _protocol_name(image: Image) -> str | None:
    for what, name in _names(image):
        shown = safe(name, _SHOWN)
        if name.startswith(b"json:"):
            return f"The {what} '{shown}' is a json: name, which can make QEMU open anything."
        if has_protocol(name):
            protocol = safe(name.partition(b":")[0], 20)
            return f"The {what} '{shown}' makes QEMU use the protocol {protocol}."
    return None


def _self_reference(image: Image) -> str | None:
    path, identity = image.storage.path, image.storage.identity()
    if path is None or identity is None:
        return None
    for what, name in _names(image):
        try:
            led_to = identity_of(resolve(path, name))
        except ReferenceRefused:
            continue
        if led_to == identity:
            return (
                f"The {what} '{safe(name, _SHOWN)}' is the image itself; programs that follow it "
                "may never end."
            )
    return None


def _backing_file(image: Image) -> str | None:
    if image.header.backing_file_offset == 0:
        return None
    if image.backing is None:
        return "The header points at the name of a backing file, which cannot be used."
    return f"It has a backing file, '{safe(image.backing.name, _SHOWN)}'."


def _data_file(image: Image) -> str | None:
    header = image.header
    if image.data_file is not None:
        return f"It names an external data file, '{safe(image.data_file, _SHOWN)}'."
    if header.has_data_file or header.autoclear_features & DATA_FILE_RAW:
        return "It keeps guest data in an external data file."
    return None


def _refused_encryption(image: Image, policy: AuditPolicy) -> str | None:
    if image.header.crypt_method == CRYPT_AES:
        return "It is encrypted with legacy AES, which is unsafe and which QEMU no longer runs."
    if image.encrypted and not policy.allow_encryption:
        return f"It is encrypted ({image.encryption}), which is not accepted."
    return None


def _hostile_string(image: Image) -> str | None:
    for what, text in _strings(image):
        if not text.decode("utf-8", "surrogateescape").isprintable():
            return f"The {what} '{safe(text, _SHOWN)}' holds characters that are not plain text."
    return None


def _strings(image: Image) -> Iterator[tuple[str, bytes]]:
    yield from ((f"{what} name", name) for what, name in _names(image))
    if image.backing is not None and image.backing.format is not None:
        yield "backing format", image.backing.format
    for snapshot in image.snapshots:
        yield "snapshot ID", snapshot.id
        yield "snapshot name", snapshot.name
    yield from (("bitmap name", bitmap.name) for bitmap in image.bitmaps)
    yield from (("feature name", feature.name) for feature in image.feature_names)
