"""``create -f FMT -o a=b,c=d``: from words to the options of a new image, and back for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from qcow.actions.create_options import CreateOptions
from qcow.errors import UsageError
from qcow.text import safe
from qcowtui.views.typed_size import size_value

from .qemu_options import BOOLEANS, key_values

_UINT64_MAX: Final = (1 << 64) - 1


class _Known(NamedTuple):
    """One option; ``read`` turns its text into a value."""

    kind: str
    read: Callable[[str, str], Any]
    help: str


def _text(_key: str, value: str) -> str:
    return value


def size_option(key: str, value: str) -> int:
    """A size as QEMU reads that of an option.  Raises UsageError."""
    number = size_value(value)
    if number is None or number > _UINT64_MAX:
        raise UsageError(
            f"Parameter '{key}' expects a non-negative number below 2^64\n"
            "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
            "and exabytes, respectively."
        )
    return number


def _number(key: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise UsageError(f"Parameter '{key}' expects a number")
    return int(value)


def _switch(key: str, value: str) -> bool:
    if value not in BOOLEANS:
        raise UsageError(f"Parameter '{key}' expects 'on' or 'off'")
    return BOOLEANS[value]


_STR, _SIZE, _NUM, _BOOL = (
    ("str", _text),
    ("size", size_option),
    ("num", _number),
    ("bool (on/off)", _switch),
)
_NO_EFFECT = "accepted, without effect: the file system decides"
#: In the order in which qemu-img prints them, for both formats after each other.
_QCOW2: Final[dict[str, _Known]] = {
    "cluster_size": _Known(*_SIZE, "512 to 2M, a power of two"),
    "extended_l2": _Known(*_BOOL, "32 subclusters in each cluster"),
    "preallocation": _Known(*_STR, "off, metadata, falloc or full"),
    "compression_type": _Known(*_STR, "of compressed clusters: zlib or zstd"),
    "size": _Known(*_SIZE, "size of the disk"),
    "compat": _Known(*_STR, "0.10 (v2) or 1.1 (v3)"),
    "backing_file": _Known(*_STR, "file whose contents show through, as -b"),
    "backing_fmt": _Known(*_STR, "its format, as -F"),
    "data_file": _Known(*_STR, "external file for the data, made anew"),
    "data_file_raw": _Known(*_BOOL, "it is to be readable as a raw image"),
    "lazy_refcounts": _Known(*_BOOL, "let QEMU write refcounts late"),
    "refcount_bits": _Known(*_NUM, "width of a refcount: 1, 2, 4, ... 64"),
}
_PROTOCOL: Final[dict[str, _Known]] = {
    "nocow": _Known(*_BOOL, _NO_EFFECT),
    "extent_size_hint": _Known(*_SIZE, _NO_EFFECT),
}
_RAW: Final[dict[str, _Known]] = {
    "size": _Known(*_SIZE, "size of the disk"),
    "nocow": _PROTOCOL["nocow"],
    "preallocation": _Known(*_STR, "off, falloc or full"),
    "extent_size_hint": _PROTOCOL["extent_size_hint"],
}
_KNOWN: Final = {"qcow2": {**_QCOW2, **_PROTOCOL}, "raw": _RAW}
#: What qemu-img prints although nobody asked for it.
_DEFAULTS: Final = {
    "qcow2": {
        "cluster_size": 65536,
        "extended_l2": False,
        "compression_type": "zlib",
        "lazy_refcounts": False,
        "refcount_bits": 16,
    },
    "raw": {},
}
_UNCREATABLE = ("bochs", "cloop", "dmg", "vvfat")
_OTHERS = ("luks", "parallels", "qcow", "qed", "vdi", "vhdx", "vmdk", "vpc")


def require_format(format: str) -> None:
    """Raise UsageError for a format that cannot be created."""
    if format in _KNOWN:
        return
    if format in _UNCREATABLE:
        raise UsageError(f"Format driver '{format}' does not support image creation")
    if format in _OTHERS:
        raise UsageError(f"This version creates qcow2 and raw images, not '{format}'.")
    raise UsageError(f"Unknown file format '{safe(format)}'")


def given_options(format: str, text: str) -> dict[str, Any]:
    """The values of a ``-o`` list, "" for none.  Raises UsageError in qemu-img's words."""
    found: dict[str, Any] = {}
    for key, raw in (key_values(text) if text else {}).items():
        if format == "qcow2" and (key == "encryption" or key.startswith("encrypt.")):
            raise UsageError("Encrypted images are not created by this version.")
        known = _KNOWN[format].get(key)
        if known is None:
            raise UsageError(f"Invalid parameter '{safe(key)}'")
        found[key] = known.read(key, raw.decode("utf-8", "surrogateescape"))
    return found


def create_options(format: str, given: Mapping[str, Any], *, unsafe: bool) -> CreateOptions:
    """The wish that the values make up."""
    wanted = {key: value for key, value in given.items() if key not in _PROTOCOL}
    return CreateOptions(**wanted, format="raw" if format == "raw" else "qcow2", unsafe=unsafe)


def formatting_line(path: str, format: str, given: Mapping[str, Any], size: int) -> str:
    """What qemu-img says when it creates an image."""
    values = {**_DEFAULTS[format], **given, "size": size}
    words = [
        f"{key}={_printed(values[key])}" for key in _KNOWN[format] if values.get(key) is not None
    ]
    return " ".join((f"Formatting '{safe(path)}', fmt={format}", *words))


def _printed(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return safe(str(value).replace(",", ",,"), 4096)


def options_help(format: str) -> list[str]:
    """The lines of ``-o help``."""
    lines = [f"Supported {format} options:"]
    for key, known in sorted(_KNOWN[format].items()):
        lines.append(f"  {key}=<{known.kind}>".ljust(24) + f" - {known.help}")
    return lines
