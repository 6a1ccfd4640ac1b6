"""Shared steps of the chain tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import qcow
from qcow.chain import Chain, open_chain
from qcow.opening import AnyImage
from qcow.storage.gate import Gate
from qcow.storage.locks import LockMode

#: Opens an image and its chain; both are closed when the test ends.
ChainOf = Callable[..., Chain]


@pytest.fixture
def chain_of() -> Iterator[ChainOf]:
    opened: list[AnyImage | Chain] = []

    def open_it(
        path: Path,
        gate: Gate | None = None,
        *,
        snapshot: str | None = None,
        lock: LockMode = LockMode.READER,
    ) -> Chain:
        image = qcow.open(path)
        opened.append(image)
        state = None
        if snapshot is not None:
            assert isinstance(image, qcow.Image)
            state = image.find_snapshot(snapshot)
        chain = open_chain(image, gate or Gate.follow(), state=state, lock=lock)
        opened.append(chain)
        return chain

    yield open_it
    for thing in reversed(opened):
        thing.close()
