"""The owner scan of a file that is almost all hole: memory follows what is there."""

from __future__ import annotations

import os
from pathlib import Path

import qcow
from qcow.image.image import Image
from qcow.inspect.classes import ClusterClass
from qcow.inspect.cluster_array import CHUNK
from qcow.inspect.owners import scan_owners
from tests.support.images import small_image


def test_a_long_hole_behind_the_image_costs_nothing(tmp_path: Path) -> None:
    path = small_image(tmp_path, cluster_bits=9)
    used = -(-path.stat().st_size // 512)
    os.truncate(path, 40 * CHUNK * 512)
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        owners = scan_owners(image)
    assert owners.counts[ClusterClass.BEYOND_END] == 40 * CHUNK - used
    assert owners.class_of(used) is ClusterClass.BEYOND_END
    assert owners.class_of(39 * CHUNK) is ClusterClass.BEYOND_END
    assert len(list(owners.classes.chunks())) == 1
