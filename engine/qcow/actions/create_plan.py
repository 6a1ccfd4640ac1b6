"""What creating an image makes, as a value: for a preview, for JSON, as a command line."""

from __future__ import annotations

from typing import Any

from ..record import record
from ..text import safe, size, size_and_bytes
from .command_line import command_line
from .create_options import CreateOptions

#: Options that are spelled in ``-o`` when they are not what they are by default.
_LISTED = (
    "cluster_size",
    "extended_l2",
    "preallocation",
    "compression_type",
    "compat",
    "data_file",
    "data_file_raw",
    "lazy_refcounts",
    "refcount_bits",
)


@record
class CreatePlan:
    """What creating ``path`` makes.  Sizes are bytes.

    ``options`` have their size.  ``written`` counts metadata and, with preallocation full, data;
    ``reserved`` what the file system is asked to set aside.  ``replaces``: what is there already
    and goes, as a phrase safe to show; "" for nothing.
    """

    path: str
    options: CreateOptions
    length: int
    written: int
    reserved: int
    data_file: str | None  # path of the external data file that is created as well
    replaces: str

    @property
    def summary(self) -> str:
        """A sentence, safe to show."""
        options = self.options
        what = f"Creates a {options.format} image of {size_and_bytes(options.disk_size)}"
        if options.backing_file is not None:
            what += f' over "{safe(options.backing_file)}"'
        return f"{what}: a file of {size(self.length)}, {size(self.written)} of it written."

    @property
    def warnings(self) -> tuple[str, ...]:
        return (f"{self.replaces} and is replaced.",) if self.replaces else ()

    def to_json(self) -> dict[str, Any]:
        """For ``--output=json``; the keys that all plans have, and the options."""
        options = self.options
        given: dict[str, Any] = {
            "format": options.format,
            "virtual-size": options.disk_size,
            "preallocation": options.preallocation,
        }
        if options.format == "qcow2":
            given.update(
                {
                    "compat": "0.10" if options.version < 3 else "1.1",
                    "cluster-size": options.cluster_size,
                    "refcount-bits": options.refcount_bits,
                    "extended-l2": options.extended_l2,
                    "compression-type": options.compression_type,
                    "lazy-refcounts": options.lazy_refcounts,
                    "backing-filename": _shown(options.backing_file),
                    "backing-filename-format": _shown(options.backing_fmt),
                    "data-file": _shown(options.data_file),
                    "data-file-raw": options.data_file_raw,
                }
            )
        return {
            "action": "create",
            "command": safe(self.command, 4096),
            "summary": self.summary,
            "warnings": list(self.warnings),
            "undo": False,
            "bytes-written": self.written,
            "bytes-reserved": self.reserved,
            "file-length-after": self.length,
            **given,
        }

    @property
    def command(self) -> str:
        """The command line that does the same; raw text."""
        options, default = self.options, CreateOptions()
        words = ["-f", options.format]
        if options.unsafe:
            words.append("-u")
        if options.backing_file is not None:
            words += ["-b", options.backing_file]
        if options.backing_fmt is not None:
            words += ["-F", options.backing_fmt]
        listed = []
        for name in _LISTED if options.format == "qcow2" else ("preallocation",):
            value = getattr(options, name)
            if value != getattr(default, name):
                text = {True: "on", False: "off"}.get(value, str(value))
                listed.append(f"{name}={text.replace(',', ',,')}")
        if listed:
            words += ["-o", ",".join(listed)]
        # A name that begins with a dash would be taken for an option.
        path = f"./{self.path}" if self.path.startswith("-") else self.path
        return command_line("create", *words, path, str(options.size))


def _shown(text: str | None) -> str | None:
    return None if text is None else safe(text)
