"""The sparse vector under the maps."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qcow.inspect.cluster_array import CHUNK, ClusterArray

positions = st.lists(st.integers(0, 5 * CHUNK), min_size=1, max_size=40)


@given(positions)
def test_it_behaves_like_a_dictionary_of_zeros(clusters: list[int]) -> None:
    array = ClusterArray(np.uint8)
    model: dict[int, int] = {}
    for number, cluster in enumerate(clusters):
        for chunk, index, _where in array.grouped(np.array([cluster])):
            chunk[index] = number
        model[cluster] = number
    for cluster in clusters:
        assert array.read(cluster, cluster + 1)[0] == model[cluster]
        assert array.touched(cluster, cluster + 1)
    total = sum(int(chunk.astype(np.int64).sum()) for _first, chunk in array.chunks())
    assert total == sum(model.values())


@given(positions)
def test_grouping_keeps_every_position(clusters: list[int]) -> None:
    array = ClusterArray(np.uint32)
    wanted = np.array(clusters)
    for chunk, index, where in array.grouped(wanted):
        chunk[index] = wanted[where]
    for cluster in clusters:
        assert array.read(cluster, cluster + 1)[0] == cluster
    ascending = np.unique(wanted)
    assert sum(len(index) for _chunk, index in array.grouped_sorted(ascending)) == len(ascending)
    for chunk, index in array.grouped_sorted(ascending):
        assert (np.isin(chunk[index], ascending)).all()


def test_far_apart_clusters_cost_only_their_chunks() -> None:
    array = ClusterArray(np.uint16)
    for _chunk, _index, _where in array.grouped(np.array([0, 1 << 50])):
        pass
    assert [first for first, _chunk in array.chunks()] == [0, 1 << 50]
    assert not array.touched(1 << 40, (1 << 40) + 1)
