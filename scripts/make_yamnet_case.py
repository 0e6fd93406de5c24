"""Write what TensorFlow Lite's builtin kernels compute inside YAMNet, for the tests of the converted graph.

The file's int8 layers round their input to 8 bits before they multiply, each time with the scale that the
input's largest value asks for. Each of them is therefore kept with its input as the kernel saw it, so that
the converted layer can be held to 1e-4 instead of to what the rounding costs.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

SAMPLES = 15_600
SEED = 7
FIRST_LAYER_OUTPUT = 85  # tensor numbers of the file
MEL_MATRIX, SPECTRUM, PATCH, EMBEDDING, LOGITS, SCORES = 70, 79, 84, 112, 113, 114
FLOAT_LAYERS = (0, 1)
INT8_LAYERS = (4, 13, 14, 25, 26)
FRAMES = (0, 47, 95)
KEPT = 600


def waveform() -> NDArray[np.float32]:
    """Noise that swells, and a tone: loud and quiet frames."""
    noise = np.random.default_rng(SEED).standard_normal(SAMPLES) * np.linspace(0.001, 0.2, SAMPLES)
    times = np.arange(SAMPLES) / 16_000
    return np.asarray(noise + 0.2 * np.sin(2 * np.pi * 880 * times) * (times > 0.5), np.float32)


def rounded(values: NDArray[np.float32]) -> tuple[NDArray[np.uint8], np.float32]:
    """Round to 8 bits as the kernels do with values that are nowhere negative."""
    scale = np.float32(values.max() / np.float32(255))
    return np.round(values / scale).astype(np.uint8), scale


def case(tflite: Path) -> dict[str, Any]:
    """Run the file once and keep parts of what its operators gave."""
    runtime = Interpreter(
        str(tflite),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    runtime.allocate_tensors()
    runtime.set_tensor(0, waveform())
    runtime.invoke()

    def tensor(number: int) -> NDArray[np.float32]:
        return np.asarray(runtime.get_tensor(number))

    scale = runtime.get_tensor_details()[MEL_MATRIX]["quantization_parameters"]["scales"][0]
    kept: dict[str, Any] = {
        "mel_matrix": runtime.get_tensor(MEL_MATRIX),
        "mel_scale": np.float32(scale),
        "frames": np.asarray(FRAMES),
        "magnitudes": tensor(SPECTRUM)[list(FRAMES)],
        "patch": tensor(PATCH)[0, ..., 0],
        "logits": tensor(LOGITS)[0],
        "scores": tensor(SCORES)[0],
    }
    kept["embedding"], kept["embedding_scale"] = rounded(tensor(EMBEDDING)[0])
    places = np.random.default_rng(SEED)
    for layer in (*FLOAT_LAYERS, *INT8_LAYERS):
        given = tensor(FIRST_LAYER_OUTPUT + layer - 1)[0]
        made = tensor(FIRST_LAYER_OUTPUT + layer)[0].transpose(2, 0, 1).ravel()
        if layer in INT8_LAYERS:
            kept[f"input_{layer}"], kept[f"input_{layer}_scale"] = rounded(given.transpose(2, 0, 1))
        chosen = places.choice(len(made), KEPT, replace=False)
        kept[f"places_{layer}"], kept[f"output_{layer}"] = chosen.astype(np.int32), made[chosen]
        kept[f"largest_{layer}"] = np.float32(made.max())
    return kept


def main() -> None:
    """Write the case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tflite", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    np.savez_compressed(args.out, allow_pickle=False, **case(args.tflite))


if __name__ == "__main__":
    main()
