"""Whatever kinds of models are put together: length, silence, and independence of batches and threads."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.arrays import FloatArray
from stemwright.models.manifest import Manifest
from stemwright.models.separation.queries import StemQuery
from stemwright.models.separation.separator import SeparationOptions, Separator
from tests.support.fake_kinds import (
    STATE_GRAPH,
    AskedSession,
    RememberingSession,
    asked_manifest,
    remembering_manifest,
)
from tests.support.fake_sessions import (
    FakeSession,
    context_kernels,
    context_network,
    fake_manifest,
    fake_member,
    gains_network,
    noise,
    separate_array,
)

pytestmark = pytest.mark.timeout(120)


class Loud:
    """Asks for what is louder than a threshold."""

    def condition(self, window: FloatArray, sample_rate: int, key: int) -> FloatArray | None:
        level = float(np.abs(window).mean())
        return None if level < 0.03 else np.array([1.0, level], np.float32)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    kind = draw(st.sampled_from(["fixed", "interchangeable", "query", "state", "speakers with a state"]))
    changes: dict[str, object] = {
        "normalisation": draw(st.sampled_from([None, {"kind": "mono_mean_std"}])),
        "audio": {"sample_rate": 1000, "channels": 2, "mode": "native"},
    }
    if kind == "query":
        base = asked_manifest()
    elif "state" in kind:
        base = remembering_manifest(
            draw(st.integers(20, 200)), kind=draw(st.sampled_from(["fixed", "variable"]))
        )
        if "speakers" in kind:
            changes["stem_kind"] = "interchangeable"
    else:
        base = fake_manifest(stems=("a", "b", "c"))
        changes["stem_kind"] = kind
    extra = draw(st.sampled_from(["none", "scale_fit", "remainder"]))
    if extra == "scale_fit" and kind != "query":
        changes["scale_fit"] = {}
    elif extra == "remainder" and kind in ("fixed", "state"):
        changes["remainder"] = base.stems[-1]
    if "state" not in kind:
        changes["plan"] = {
            "input_samples": 200,
            "output_samples": 200,
            "overlap": draw(st.sampled_from([0.25, 0.5])),
            "window": draw(st.sampled_from(["triangle", "hann"])),
            "tail": draw(st.sampled_from(["centred", "end"])),
            "time": draw(st.sampled_from(["fixed", "variable"])),
            "multiple": 4,
        }
    return Manifest.model_validate({**base.model_dump(), **changes})


def session_of(manifest: Manifest, batch: int, calls: int) -> FakeSession:
    made: Mapping[str, object] = {
        "graph": manifest.graph,
        "batch_limit": batch,
        "parallel_calls": calls,
    }
    if manifest.query is not None:
        return AskedSession(network=gains_network(), **made)  # type: ignore[arg-type]
    if manifest.graph == STATE_GRAPH:
        return RememberingSession(network=gains_network(), **made)  # type: ignore[arg-type]
    return FakeSession(network=context_network(context_kernels(3)), **made)  # type: ignore[arg-type]


def separated(
    manifest: Manifest, samples: FloatArray, rate: int, *, batch: int, calls: int, block: int = 65_536
) -> dict[str, FloatArray]:
    queries: tuple[StemQuery, ...] = ()
    if manifest.query is not None:
        queries = tuple(StemQuery(name=name, source=Loud()) for name in ("dog", "cat"))
    session = session_of(manifest, batch, calls)
    with Separator([fake_member(session, manifest)], manifest.stems) as separator:
        options = SeparationOptions(queries=queries, residual=True, block_frames=block)
        return separate_array(separator, samples, rate, options)


@settings(max_examples=60, deadline=None)
@given(
    manifest=manifests(),
    frames=st.integers(1, 900),
    channels=st.integers(1, 2),
    rate=st.sampled_from([1000, 1600]),
    batch=st.integers(1, 5),
    calls=st.integers(1, 3),
)
def test_every_kind_keeps_the_laws(
    manifest: Manifest, frames: int, channels: int, rate: int, batch: int, calls: int
) -> None:
    samples = noise(channels, frames, seed=frames)
    samples[:, frames // 3 : frames // 2] *= 0.01
    stems = separated(manifest, samples, rate, batch=1, calls=1)
    again = separated(manifest, samples, rate, batch=batch, calls=calls)
    for name, values in stems.items():
        assert values.shape == samples.shape
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(again[name], values)
    total = np.sum(list(stems.values()), axis=0, dtype=np.float64)
    largest = max(float(np.abs(values).max()) for values in stems.values())
    np.testing.assert_allclose(total, samples, atol=1e-6 * max(1.0, largest) * len(stems))
    silence = separated(manifest, np.zeros_like(samples), rate, batch=batch, calls=calls)
    assert not any(values.any() for values in silence.values())
