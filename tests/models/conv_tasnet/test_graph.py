from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError
from stemwright.models.conv_tasnet.configs import (
    ASTEROID,
    KAITUOXU,
    MUSIC,
    PAPER,
    PAPER_CAUSAL,
    TORCHAUDIO,
    ConvTasNetConfig,
)
from stemwright.models.conv_tasnet.graph import build_graph, state_tensors
from stemwright.models.conv_tasnet.network import ConvTasNet
from stemwright.models.sessions.runtimes.openvino_core import openvino_core
from tests.support.conv_tasnet import random_tensors, small

WHOLE: dict[str, ConvTasNetConfig] = {
    "paper": small(PAPER),
    "torchaudio": small(TORCHAUDIO, sources=3),
    "asteroid": small(ASTEROID, filter_length=32, encoder_activation="relu"),
    "softmax": small(ASTEROID, mask="softmax", sources=3),
    "linear": small(ASTEROID, mask="linear"),
    "no skips": small(ASTEROID, skip=0),
    "one source": small(ASTEROID, sources=1),
    "kaituoxu": small(KAITUOXU),
    "kaituoxu, causal": small(KAITUOXU, causal=True),
    "frame norms": small(PAPER, norm="channel", input_norm="channel"),
    "music": small(MUSIC),
    "cumulative, not causal": small(ASTEROID, norm="cumulative", input_norm="cumulative"),
    "cumulative in front": small(PAPER, input_norm="cumulative", causal=True),
    "five taps": small(PAPER, kernel=5),
}
STREAMED: dict[str, ConvTasNetConfig] = {
    "paper": small(PAPER_CAUSAL),
    "stereo": small(PAPER_CAUSAL, audio_channels=2, sources=3),
    "edges inside": small(PAPER_CAUSAL, edges="inside"),
    "frame norms": small(PAPER_CAUSAL, norm="channel", input_norm="channel", edges="inside"),
    "frame norm in front": small(PAPER_CAUSAL, input_norm="channel", edges="inside", skip=0),
    "one tap": small(PAPER_CAUSAL, kernel=1),
    "four taps, no biases": small(PAPER_CAUSAL, kernel=4, biases=False, mask_prelu=False),
}
Arrays = dict[str, npt.NDArray[Any]]


def session_of(config: ConvTasNetConfig, seed: int = 0) -> ort.InferenceSession:
    model = build_graph(config, random_tensors(config, seed))
    onnx.checker.check_model(model, full_check=True)
    return ort.InferenceSession(model.SerializeToString())


def from_torch(config: ConvTasNetConfig, mixture: FloatArray) -> FloatArray:
    net = ConvTasNet(config).eval()
    net.load_state_dict({name: torch.from_numpy(v) for name, v in random_tensors(config).items()})
    with torch.no_grad():
        found: FloatArray = net(torch.from_numpy(mixture)).numpy()
    return found


def noise(*shape: int, seed: int = 0) -> FloatArray:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.1).astype(np.float32)


def relative(found: FloatArray, expected: FloatArray) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def first_state(config: ConvTasNetConfig) -> Arrays:
    return {t.input: np.full(t.shape, t.initial, t.dtype) for t in state_tensors(config)}


def call(
    session: ort.InferenceSession, config: ConvTasNetConfig, mixture: FloatArray, state: Arrays
) -> tuple[FloatArray, Arrays]:
    names = [port.name for port in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, {"mixture": mixture, **state}), strict=True))
    return outputs["stems"], {t.input: outputs[t.output] for t in state_tensors(config)}


def streamed(config: ConvTasNetConfig, mixture: FloatArray, hops: list[int]) -> FloatArray:
    """Stems of a mixture of whole hops, in calls of so many hops; the last takes what is left."""
    session, state = session_of(config), first_state(config)
    late = np.pad(mixture, ((0, 0), (0, 0), (0, config.hop)))
    parts, place = [], 0
    for size in [*(count * config.hop for count in hops), late.shape[-1]]:
        piece = late[..., place : place + size]
        place += size
        if piece.shape[-1]:
            stems, state = call(session, config, piece, state)
            parts.append(stems)
    return np.concatenate(parts, axis=-1)[..., config.hop :]


@pytest.mark.parametrize("config", WHOLE.values(), ids=WHOLE)
def test_graph_gives_what_torch_gives(config: ConvTasNetConfig) -> None:
    session = session_of(config)
    for samples in (2 * config.filter_length, 30 * config.filter_length):
        mixture = noise(2, config.audio_channels, samples)
        (stems,) = session.run(None, {"mixture": mixture})
        assert relative(stems, from_torch(config, mixture)) < 1e-5


def test_statistics_of_long_windows_lose_no_digits() -> None:
    """8 s of music: a sum in one row of float32 would be wrong in the third digit."""
    config = small(MUSIC, hidden=128, blocks=1, repeats=1)
    mixture = noise(1, 2, 35_280 * config.hop)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = build_graph(config, random_tensors(config)).SerializeToString()
    (stems,) = ort.InferenceSession(model, options).run(None, {"mixture": mixture})
    assert relative(stems, from_torch(config, mixture)) < 1e-5


@pytest.mark.parametrize("config", WHOLE.values(), ids=WHOLE)
def test_a_single_hop_is_as_if_silence_followed(config: ConvTasNetConfig) -> None:
    mixture = noise(1, config.audio_channels, config.hop)
    later = np.pad(mixture, ((0, 0), (0, 0), (0, config.hop if config.edges == "inside" else 0)))
    (stems,) = session_of(config).run(None, {"mixture": mixture})
    assert relative(stems, from_torch(config, later)[..., : config.hop]) < 1e-5


@pytest.mark.parametrize("hops", [[], [1] * 60, [2, 1, 7], [100]], ids=["whole", "hops", "uneven", "long"])
@pytest.mark.parametrize("config", STREAMED.values(), ids=STREAMED)
def test_calls_with_a_state_give_what_one_call_gives(config: ConvTasNetConfig, hops: list[int]) -> None:
    mixture = noise(1, config.audio_channels, 120 * config.hop)
    expected, found = from_torch(config, mixture), streamed(config, mixture, hops)
    if config.edges == "inside":
        # There the last hop of a recording is in one frame only, while a stream may always go on.
        later = np.pad(mixture, ((0, 0), (0, 0), (0, config.hop)))
        expected = from_torch(config, later)[..., : mixture.shape[-1]]
    assert relative(found, expected) < 1e-5


def test_state_is_what_the_graph_says() -> None:
    for config in STREAMED.values():
        session, state = session_of(config), first_state(config)
        _, later = call(session, config, noise(1, config.audio_channels, 3 * config.hop), state)
        assert {name: (v.shape, v.dtype) for name, v in state.items()} == {
            name: (v.shape, v.dtype) for name, v in later.items()
        }


def test_statistics_do_not_drift_in_an_hour() -> None:
    """After an hour of frames, whose sums are put into the state, a change of level still counts rightly."""
    config = small(PAPER_CAUSAL)
    session, state = session_of(config), first_state(config)
    _, state = call(session, config, noise(1, 1, 400 * config.hop), state)
    hour = 3600 * config.sample_rate // config.hop
    grown = dict(state)
    grown["hops.in"] = np.array([float(hour)])
    grown["sums.in"] = state["sums.in"] * (hour / 400)
    step = noise(1, 1, 2000 * config.hop, seed=1) * 3
    at_once, end = call(session, config, step, dict(grown))
    parts = []
    for start in range(0, step.shape[-1], 10 * config.hop):
        stems, grown = call(session, config, step[..., start : start + 10 * config.hop], grown)
        parts.append(stems)
    assert relative(np.concatenate(parts, -1), at_once) < 1e-5
    np.testing.assert_allclose(grown["sums.in"], end["sums.in"], rtol=1e-9)
    assert end["hops.in"][0] == hour + 2000
    # In float32 a hundredth of a frame would be lost with each: sums of this size are 0.25 apart.
    assert np.spacing(np.float32(end["sums.in"].max())) > 1e-3


def test_silence_stays_silent() -> None:
    for config in (*WHOLE.values(), *STREAMED.values()):
        silence = np.zeros((1, config.audio_channels, 20 * config.hop), np.float32)
        stems = session_of(config).run(["stems"], {"mixture": silence, **first_state(config)})[0]
        assert not stems.any()


def test_float16_weights_cost_nothing_where_they_are_exact() -> None:
    config = small(PAPER, filters=64, hidden=32)
    tensors = {name: v.astype(np.float16).astype(np.float32) for name, v in random_tensors(config).items()}
    mixture = noise(1, 1, 400)
    models = [build_graph(config, tensors, storage) for storage in ("float32", "float16")]
    one, other = (
        ort.InferenceSession(model.SerializeToString()).run(None, {"mixture": mixture})[0] for model in models
    )
    np.testing.assert_array_equal(one, other)
    stored = {t.name: t.data_type for t in models[1].graph.initializer}
    assert stored["mask.weight/float16"] == onnx.TensorProto.FLOAT16
    inexact = build_graph(config, random_tensors(config), "float16")
    assert {t.data_type for t in inexact.graph.initializer} == {1, 7}


@pytest.mark.parametrize("what", ["missing", "unknown", "shape", "nan"])
def test_tensors_that_do_not_fit_are_refused(what: str) -> None:
    config = small(PAPER)
    tensors = random_tensors(config)
    if what == "missing":
        del tensors["blocks.1.skip.bias"]
    elif what == "unknown":
        tensors["blocks.99.skip.bias"] = np.zeros(10, np.float32)
    elif what == "shape":
        tensors["mask.bias"] = np.zeros(5, np.float32)
    else:
        tensors["mask.bias"][3] = np.nan
    with pytest.raises(ModelFileError, match=r"lacks|not part|shape|not finite"):
        build_graph(config, tensors)


def test_openvino_gives_the_same(tmp_path: Path) -> None:

    for config in (small(PAPER), small(MUSIC), small(ASTEROID, norm="channel", input_norm="channel")):
        path = tmp_path / "model.onnx"
        path.write_bytes(build_graph(config, random_tensors(config)).SerializeToString())
        compiled = openvino_core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        mixture = noise(1, config.audio_channels, 100 * config.hop)
        (stems,) = session_of(config).run(None, {"mixture": mixture})
        assert relative(compiled({"mixture": mixture})["stems"], stems) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper", "causal", "music"])
def test_networks_of_true_size_give_what_torch_gives(name: str) -> None:
    config = {"paper": PAPER, "causal": PAPER_CAUSAL, "music": MUSIC}[name]
    mixture = noise(1, config.audio_channels, 500 * config.hop)
    if config.streamable:
        found = streamed(config, mixture, [3, 200])
    else:
        (found,) = session_of(config).run(None, {"mixture": mixture})
    assert relative(found, from_torch(config, mixture)) < 1e-4


def test_a_batch_is_one_for_streams_only() -> None:
    for config, axes in ((small(PAPER), "batch"), (small(PAPER_CAUSAL), 1)):
        model = build_graph(config, random_tensors(config))
        dims = model.graph.input[0].type.tensor_type.shape.dim
        assert (dims[0].dim_param or dims[0].dim_value) == axes
