import numpy as np

from stemwright.core.audio.source import ArraySource
from stemwright.models.separation.separator import Separator
from stemwright.service import bench_worker
from tests.support.fake_kinds import ASKED_GRAPH, AskedSession, asked_manifest
from tests.support.fake_sessions import FakeSession, fake_manifest, fake_member, gains_network, noise


def test_models_that_are_asked_are_measured_with_a_query_that_is_never_silent() -> None:
    session = AskedSession(network=gains_network(), graph=ASKED_GRAPH)
    with Separator([fake_member(session, asked_manifest())], ()) as separator:
        turn = bench_worker._turn(separator, ArraySource(noise(2, 1000), 1000))
    assert sum(session.batches) == 10
    assert turn["wall_s"] > 0


def test_models_of_fixed_stems_are_measured_as_they_are() -> None:
    session = FakeSession(network=gains_network())
    with Separator([fake_member(session)], fake_manifest().stems) as separator:
        assert separator.query_rules is None
        bench_worker._turn(separator, ArraySource(np.ones((2, 500), np.float32), 1000))
    assert session.batches
