"""Which layer serves how much: exact, against sums over qemu-img map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qcow.chain import Chain, coverage, layer_infos
from qcow.errors import Cancelled
from qcow.jobs import CancelToken, Progress
from qcow.storage.gate import Gate
from tests.oracle.catalogue.chains import theme
from tests.qcow.chain.conftest import ChainOf
from tests.support.qemu import parsed, qemu_img

pytestmark = pytest.mark.oracle

ALL = {variant.name: variant for variant in theme.variants}


def _map(path: Path, fmt: str = "qcow2") -> list[dict[str, Any]]:
    shown = qemu_img("map", "--output=json", "-f", fmt, path).stdout
    return [dict(entry) for entry in parsed(shown)]


def _sum(entries: list[dict[str, Any]], depth: int, key: str) -> int:
    return sum(entry["length"] for entry in entries if entry["depth"] == depth and entry[key])


def _own_data(chain: Chain, index: int, folder: Path) -> int:
    """Data of one layer alone: qemu-img map of it as depth 0."""
    layer = chain.layers[index]
    assert layer.path is not None
    return _sum(_map(Path(layer.path), layer.format or ""), 0, "data")


@pytest.mark.parametrize("name", ALL)
def test_sums_are_those_of_the_map(name: str, tmp_path: Path, chain_of: ChainOf) -> None:
    path = ALL[name].build(tmp_path)
    chain = chain_of(path)
    theirs = _map(path)
    ours = coverage(chain)
    for index, layer in enumerate(ours.layers):
        assert layer.served == _sum(theirs, index, "present")
        assert layer.served_data == _sum(theirs, index, "data")
        assert layer.stored == _own_data(chain, index, tmp_path)
        assert layer.hidden == layer.stored - layer.served_data >= 0
    assert sum(layer.served for layer in ours.layers) + ours.unserved == chain.virtual_size


def test_an_absent_layer_is_told_what_it_would_have_to_serve(
    tmp_path: Path, chain_of: ChainOf
) -> None:
    path = ALL["backing-three-deep"].build(tmp_path)
    whole = coverage(chain_of(path))
    (tmp_path / "root.raw").unlink()
    chain = chain_of(path)
    ours = coverage(chain)
    assert ours.layers[:3] == whole.layers[:3]
    assert (ours.layers[3].stored, ours.layers[3].hidden) == (None, None)
    # Without the file its end is not known either: whatever reaches it counts.
    assert ours.layers[3].served >= whole.layers[3].served
    assert sum(layer.served for layer in ours.layers) + ours.unserved == chain.virtual_size
    closed = chain_of(path, Gate.closed())
    ours = coverage(closed)
    assert ours.layers[0].served == whole.layers[0].served
    assert ours.layers[1].served == chain.virtual_size - whole.layers[0].served
    infos = layer_infos(closed, ours)
    assert [info.coverage for info in infos] == list(ours.layers)


def test_progress_and_cancel(tmp_path: Path, chain_of: ChainOf) -> None:
    chain = chain_of(ALL["backing-same-size"].build(tmp_path))
    seen: list[Progress] = []
    coverage(chain, progress=seen.append)
    assert seen[-1].fraction == 1.0
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        coverage(chain, cancel=cancel)
