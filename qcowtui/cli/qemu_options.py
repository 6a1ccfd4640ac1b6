"""qemu-img's ``-o`` lists: ``key=value,key=value``, a comma inside a value written twice."""

from __future__ import annotations

from collections.abc import Sequence

from qcow.errors import UsageError
from qcow.inspect.measure import Target
from qcow.text import safe
from qcowtui.views.typed_size import size_value

#: Options of a new qcow2 that do not change how large it gets.
_WITHOUT_EFFECT = frozenset(
    {
        "backing_fmt",
        "compression_type",
        "data_file",
        "data_file_raw",
        "encrypt.key-secret",
        "extent_size_hint",
        "lazy_refcounts",
        "nocow",
        "size",
    }
)
#: What a switch may be set to.
BOOLEANS = {
    **dict.fromkeys(("on", "yes", "true", "y"), True),
    **dict.fromkeys(("off", "no", "false", "n"), False),
}


def option_list(given: Sequence[str]) -> str:
    """Several ``-o`` joined into one.  Raises UsageError for one that is not a list."""
    for text in given:
        commas = len(text) - len(text.rstrip(","))
        if not text or text.startswith(",") or commas % 2:
            raise UsageError(f"Invalid option list: {safe(text)}")
    return ",".join(given)


def key_values(text: str) -> dict[str, bytes]:
    """The members of a list, the last one of a key wins; values as raw bytes.

    A key without ``=`` is switched on, one that begins with ``no`` off.
    """
    found: dict[str, bytes] = {}
    for member in text.replace(",,", "\0").split(","):
        key, equals, value = member.replace("\0", ",").partition("=")
        if not equals:
            off = key.startswith("no") and key != "nocow"
            key, value = (key[2:], "off") if off else (key, "on")
        found[key] = value.encode("utf-8", "surrogateescape")
    return found


def creation_target(format: str, options: str) -> Target | None:
    """What ``-O FORMAT -o OPTIONS`` would make; None for raw.  Raises UsageError."""
    given = key_values(options) if options else {}
    values = {key: value.decode("utf-8", "surrogateescape") for key, value in given.items()}
    known = ("size", "nocow", "preallocation", "extent_size_hint") if format == "raw" else None
    for key in values:
        if known is not None and key not in known:
            raise _invalid(format, f"Invalid parameter '{safe(key)}'")
    if format == "raw":
        return None
    target = Target()
    for key, value in values.items():
        target = _applied(target, key, value)
    target.geometry()
    return target


def _applied(target: Target, key: str, value: str) -> Target:
    if key == "cluster_size":
        size = size_value(value)
        if size is None:
            raise _invalid("qcow2", f"Parameter '{key}' expects a size, not '{safe(value)}'")
        return target._replace(cluster_size=size)
    if key == "refcount_bits":
        if not (value.isascii() and value.isdigit()):
            raise _invalid("qcow2", f"Parameter '{key}' expects a number")
        return target._replace(refcount_bits=int(value))
    if key == "compat":
        if value not in ("0.10", "1.1"):
            raise UsageError(f"Invalid compatibility level: '{safe(value)}'")
        return target._replace(version=2 if value == "0.10" else 3)
    if key == "extended_l2":
        if value not in BOOLEANS:
            raise _invalid("qcow2", f"Parameter '{key}' expects 'on' or 'off'")
        return target._replace(extended_l2=BOOLEANS[value])
    if key == "preallocation":
        if value not in ("off", "metadata", "falloc", "full"):
            raise UsageError(f"invalid parameter value: {safe(value)}")
        return target._replace(preallocated=value in ("falloc", "full"))
    if key == "backing_file":
        return target._replace(has_backing_file=True)
    if key == "encrypt.format" and value == "luks":
        raise UsageError(
            "Parameter 'encrypt.key-secret' is required for cipher: this version has no secrets, "
            "so a LUKS image cannot be measured."
        )
    if key in _WITHOUT_EFFECT or key == "encryption" or key.startswith("encrypt."):
        return target
    raise _invalid("qcow2", f"Invalid parameter '{safe(key)}'")


def _invalid(format: str, why: str) -> UsageError:
    return UsageError(f"{why}\nInvalid options for file format '{format}'")
