"""Runs of host clusters, as JSON or as a table."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qcow.image.image import Image
from qcow.inspect.classes import ClusterClass
from qcow.inspect.owners import OwnerMap

from .class_names import class_name
from .cluster_runs import cluster_runs
from .number_rows import Line, Number, RowPrinter, write_json_list
from .output import Output

_ALL = (True,) * 4
_INT64_MAX = np.uint64(np.iinfo(np.int64).max)


def print_json(image: Image, owners: OwnerMap, output: Output) -> None:
    """A list of ``{offset, length, class, refcount, references}``, one in a line."""
    lines = [
        Line(
            (
                '{ "offset": ',
                ', "length": ',
                f', "class": "{class_name(kind)}", "refcount": ',
                ', "references": ',
                "},\n",
            ),
            _ALL,
        )
        for kind in ClusterClass
    ]
    rows = RowPrinter(lines, (Number.DECIMAL,) * 4)
    write_json_list(_texts(image, owners, rows), output)


def print_human(image: Image, owners: OwnerMap, output: Output) -> None:
    """The same as a table."""
    lines = [Line(("", "", f"{kind.label:<22}", " / ", "\n"), _ALL) for kind in ClusterClass]
    numbers = (Number.PADDED_HEX, Number.PADDED_HEX, Number.DECIMAL, Number.DECIMAL)
    rows = RowPrinter(lines, numbers)
    output.line(f"{'Offset':<16}{'Length':<16}{'Class':<22}Refcount / references")
    for text in _texts(image, owners, rows):
        output.write_bytes(text)


def _texts(image: Image, owners: OwnerMap, rows: RowPrinter) -> Iterator[bytes]:
    bits = image.usable_geometry_for_tables().cluster_bits
    for runs in cluster_runs(image, owners):
        columns = (
            runs.first << bits,
            runs.clusters << bits,
            np.minimum(runs.refcount, _INT64_MAX).astype(np.int64),
            runs.references.astype(np.int64),
        )
        yield from rows.print(runs.kind, columns)
