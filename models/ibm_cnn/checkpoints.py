"""Checkpoints of IBM-CNNs: ours, and the arrays of the authors' TensorFlow network."""

from collections.abc import Mapping

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.checkpoints.checkpoint import FloatArray, Value
from stemwright.models.ibm_cnn.configs import KLASS, IBMCNNConfig

TENSORFLOW = "ibm-cnn-tensorflow"
OURS = "ibm-cnn"

_LAYERS: Mapping[str, str] = {
    "Conv1": "conv1",
    "Conv2": "conv2",
    "Conv3": "conv3",
    "Conv4": "conv4",
    "fullyConnect1": "dense1",
    "fullyConnect2": "dense2",
    "ouputLayer": "output",  # spelt so
}
"""Scopes of the authors' graph, in order, and our names of the layers."""
_FIRST = "Conv1/weights/Variable"
_REMEDY = "give all 14 variables, by their names in the graph or by numpy.savez in the order of the layers"


def recognises(checkpoint: Checkpoint) -> bool:
    """Tell by the class, or by the variables' names, whether a checkpoint is of an IBM-CNN."""
    return checkpoint.klass == KLASS or _is_named(checkpoint)


def config_of(checkpoint: Checkpoint) -> IBMCNNConfig:
    """Return what a checkpoint says of its network and its use.

    Raises
    ------
    ModelFileError
        A setting that no IBM-CNN has.
    """
    given = dict(checkpoint.kwargs)
    unknown = sorted(set(given) - set(IBMCNNConfig().arguments()))
    if unknown:
        raise ModelFileError(
            f"the checkpoint has a setting {unknown[0]}, which is not known here", "use a later stemwright"
        )
    default = IBMCNNConfig()
    theta, mirror = given.get("theta", default.theta), given.get("mirror", default.mirror)
    if not isinstance(theta, int | float) or not 0 <= theta < 1:
        raise ModelFileError(f"the checkpoint has theta = {theta!r}", "it has to be at least 0 and below 1")
    if mirror not in ("exact", "off_by_one"):
        raise ModelFileError(f"the checkpoint has mirror = {mirror!r}", "it is exact or off_by_one")
    compression = given.get("compression", default.compression)
    if compression not in ("none", "log"):
        raise ModelFileError(f"the checkpoint has compression = {compression!r}", "it is none or log")
    first, second, third, fourth = _sizes(given, "channels", default.channels)
    wide, narrow = _sizes(given, "hidden", default.hidden)
    return IBMCNNConfig(
        channels=(first, second, third, fourth),
        hidden=(wide, narrow),
        theta=float(theta),
        mirror="off_by_one" if mirror == "off_by_one" else "exact",
        compression="log" if compression == "log" else "none",
    )


def tensors_of(checkpoint: Checkpoint) -> Mapping[str, FloatArray]:
    """Return the tensors under our names and in our layout.

    TensorFlow keeps convolutions as [time, frequency, in, out] and dense layers as [in, out]; the order in
    which the last convolution's output is flattened is the same there and here.

    Raises
    ------
    ModelFileError
        A variable of the authors' network is missing, or one has another number of axes.
    """
    if checkpoint.like != TENSORFLOW and not _is_named(checkpoint):
        return checkpoint.tensors
    made: dict[str, FloatArray] = {}
    for index, (scope, layer) in enumerate(_LAYERS.items()):
        for place, (kind, ours) in enumerate((("weights", "weight"), ("biases", "bias"))):
            value = _variable(checkpoint.tensors, f"{scope}/{kind}/Variable", f"arr_{2 * index + place}")
            made[f"{layer}.{ours}"] = value if kind == "biases" else _turned(value, scope)
    return made


def _turned(weights: FloatArray, scope: str) -> FloatArray:
    if weights.ndim != (4 if scope.startswith("Conv") else 2):
        raise ModelFileError(f"the weights of {scope} have {weights.ndim} axes", _REMEDY)
    return weights.transpose(3, 2, 0, 1) if weights.ndim == 4 else weights.T


def _variable(tensors: Mapping[str, FloatArray], name: str, numbered: str) -> FloatArray:
    for known in (name, f"{name}:0", numbered):
        if known in tensors:
            return tensors[known]
    raise ModelFileError(f"the checkpoint has no variable {name}", _REMEDY)


def _is_named(checkpoint: Checkpoint) -> bool:
    return _FIRST in checkpoint.tensors or f"{_FIRST}:0" in checkpoint.tensors


def _sizes(given: Mapping[str, Value], key: str, default: tuple[int, ...]) -> tuple[int, ...]:
    value = given.get(key, list(default))
    if isinstance(value, list | tuple) and len(value) == len(default):
        sizes = tuple(size for size in value if type(size) is int and 0 < size < 1 << 16)
        if len(sizes) == len(default):
            return sizes
    raise ModelFileError(
        f"the checkpoint's network has {key} = {value!r}", f"it has to be {len(default)} whole numbers"
    )
