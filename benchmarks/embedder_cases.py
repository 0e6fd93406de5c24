"""Make the stored cases of embedders: random weights and what the authors' own networks make of a sound.

Each case is made in an environment that has the authors' package, and kept beside the tests that read it:

    pip download --no-deps cdpam==0.0.6 && unzip cdpam-0.0.6-py3-none-any.whl -d cdpam
    python benchmarks/embedder_cases.py cdpam cdpam/cdpam/models.py tests/models/embedders/cdpam_case.npz
    pip download --no-deps music2latent==0.1.8 && unzip music2latent-0.1.8-py3-none-any.whl -d music2latent
    python benchmarks/embedder_cases.py music2latent music2latent tests/models/embedders/music2latent_case.npz
    pip install torchlibrosa==0.1.0
    pip download --no-deps laion-clap==1.1.7 && unzip laion_clap-1.1.7-py3-none-any.whl -d laion_clap
    python benchmarks/embedder_cases.py clap laion_clap tests/models/embedders/clap_case.npz
    pip install transformers==4.57.1
    python benchmarks/embedder_cases.py mert - tests/models/embedders/mert_case.npz
    git clone https://github.com/harritaylor/torchvggish
    python benchmarks/embedder_cases.py vggish torchvggish tests/models/embedders/vggish_case.npz
"""

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def module_of(path: Path) -> ModuleType:
    """Load one file of a package, without what the package imports besides."""
    spec = importlib.util.spec_from_file_location("authors", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def randomised(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give every tensor of a network random values at which nothing dies out."""
    torch.manual_seed(seed)
    for name, value in network.state_dict().items():
        if not value.is_floating_point():
            continue
        if "var" in name:
            value.uniform_(0.5, 1.5)
        elif value.ndim < 2:
            value.copy_(torch.randn_like(value) * 0.1 + (1.0 if name.endswith("weight") else 0.0))
        else:
            value.copy_(torch.randn_like(value) * (1.5 / value[0].numel()) ** 0.5)
    return network.eval()


def state_of(network: torch.nn.Module, prefix: str = "") -> Arrays:
    """Return the tensors by name."""
    return {f"state/{prefix}{name}": value.numpy() for name, value in network.state_dict().items()}


def cdpam(source: Path) -> Arrays:
    """Run CDPAM's encoder, 8 layers that begin with 4 channels, on 3 sounds of 1000 samples."""
    network = randomised(module_of(source).base_encoder(n_layers=8, nefilters=4))
    sounds = torch.randn(3, 1000, generator=torch.Generator().manual_seed(1)) * 3000
    with torch.no_grad():
        _, acoustic, content = network(sounds[:, None])
    normalise = torch.nn.functional.normalize
    return state_of(network, "base_encoder.") | {
        "sounds": sounds.numpy(),
        "acoustic": normalise(acoustic, dim=1).numpy(),
        "content": normalise(content, dim=1).numpy(),
    }


def vggish(source: Path) -> Arrays:
    """Run torchvggish, with few channels, on 2.5 s of noise; the last ReLU is left out as fadtk does."""
    sys.modules["resampy"] = ModuleType("resampy")  # used at other rates only
    sys.path.insert(0, str(source))
    authors = importlib.import_module("torchvggish.vggish")
    front_end = importlib.import_module("torchvggish.vggish_input")
    network = authors.VGG(small_vgg(authors.make_layers()))
    network.embeddings = torch.nn.Sequential(
        torch.nn.Linear(6 * 4 * 6, 10),
        torch.nn.ReLU(),
        torch.nn.Linear(10, 9),
        torch.nn.ReLU(),
        torch.nn.Linear(9, 5),
    )
    sound = np.random.default_rng(2).normal(0, 0.1, 40_000).astype(np.float32)
    examples = front_end.waveform_to_examples(sound.astype(np.float64), 16_000).detach()
    with torch.no_grad():
        made = randomised(network)(examples)
    return state_of(network) | {
        "sound": sound,
        "features": examples[:, 0].numpy(),
        "embedding": made.numpy(),
    }


def small_vgg(layers: torch.nn.Sequential) -> torch.nn.Sequential:
    """Return the same layers with 2 to 6 channels."""
    channels, made = 1, []
    for layer in layers:
        if isinstance(layer, torch.nn.Conv2d):
            layer = torch.nn.Conv2d(channels, min(channels + 1, 6), 3, padding=1)
            channels = layer.out_channels
        made.append(layer)
    return torch.nn.Sequential(*made)


def clap(source: Path) -> Arrays:
    """Run HTSAT of laion_clap, with few channels, and a projection on 2 sounds of 10 s."""
    package = ModuleType("clap_module")  # its own __init__ loads the text branch
    package.__path__ = [str(source / "laion_clap" / "clap_module")]
    sys.modules["clap_module"] = package
    tools: Any = ModuleType(
        "clap_module.utils"
    )  # used in training, and for outputs that are not the embedding
    tools.do_mixup, tools.interpolate = None, lambda x, ratio: x
    sys.modules["clap_module.utils"] = tools
    authors: Any = importlib.import_module("clap_module.htsat")
    settings = SimpleNamespace(
        window_size=1024, hop_size=480, sample_rate=48_000, mel_bins=64, fmin=50, fmax=14_000
    )
    branch = authors.HTSAT_Swin_Transformer(
        config=settings, embed_dim=8, depths=[2, 3, 2, 1], num_heads=[2, 2, 4, 4], num_classes=3
    )
    projection = torch.nn.Sequential(torch.nn.Linear(64, 12), torch.nn.ReLU(), torch.nn.Linear(12, 10))
    state = branch.state_dict()
    kept = {name: state[name].clone() for name in state if "extractor" in name or "mask" in name}
    randomised(branch)
    branch.load_state_dict(kept, strict=False)
    branch.bn0.running_mean.fill_(-30.0)
    branch.bn0.running_var.fill_(300.0)
    draws = np.random.default_rng(5)
    sounds = draws.normal(0, 0.1, (2, 480_000)).astype(np.float32)
    sounds[1, 200_000:] = 0
    heard = torch.tensor(sounds)
    with torch.no_grad():
        features = branch.logmel_extractor(branch.spectrogram_extractor(heard))[:, 0]
        embedded = randomised(projection)(branch({"waveform": heard}, device="cpu")["embedding"])
    state = state_of(branch, "module.audio_branch.") | state_of(projection, "module.audio_projection.")
    unused = ("extractor", "mask", "index", "tscam", "head.")
    return {name: value for name, value in state.items() if not any(part in name for part in unused)} | {
        "seed": np.asarray(5),
        "features": features.numpy().astype(np.float16),
        "embedding": torch.nn.functional.normalize(embedded, dim=-1).numpy(),
    }


def mert(source: Path) -> Arrays:
    """Run transformers' HubertModel, 2 layers of 128, on 2 sounds of 1500 samples."""
    transformers = importlib.import_module("transformers")
    config = transformers.HubertConfig(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        conv_dim=[8] * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    network = transformers.HubertModel(config)
    extractor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=24_000, do_normalize=True)
    sounds = np.random.default_rng(3).normal(0.01, 0.1, (2, 1500)).astype(np.float32)
    heard = extractor(list(sounds), sampling_rate=24_000, return_tensors="pt").input_values
    with torch.no_grad():
        states = randomised(network)(heard, output_hidden_states=True).hidden_states
    return state_of(network) | {
        "sounds": sounds,
        "heard": heard.numpy(),
        "embedding": states[-1].numpy(),
    }


def music2latent(source: Path) -> Arrays:
    """Run the encoder of music2latent, with an eighth of its channels, on 0.3 s of noise and silence."""
    sys.modules["huggingface_hub"] = ModuleType("huggingface_hub")  # used to download only
    sys.modules["huggingface_hub"].hf_hub_download = None  # type: ignore[attr-defined]
    sys.path.insert(0, str(source))
    models: Any = importlib.import_module("music2latent.models")
    models.base_channels, models.bottleneck_base_channels = 8, 16
    models.num_bottleneck_layers, models.bottleneck_channels = 2, 6
    models.multipliers_list = [1, 2, 2, 2, 2]
    inference = importlib.import_module("music2latent.inference")
    network = randomised(models.Encoder())
    sound = np.random.default_rng(4).normal(0, 0.1, 13_500).astype(np.float32)
    sound[5000:9000] = 0
    trainer = ModuleType("trainer")
    trainer.gen = torch.nn.Module()  # type: ignore[attr-defined]
    trainer.gen.encoder = network
    made = inference.encode_audio_inference(sound, trainer, 44_100 * 60, 1, device="cpu")
    return state_of(network, "encoder.") | {"sound": sound, "embedding": made[0].T.numpy()}


CASES: dict[str, Callable[[Path], Arrays]] = {
    "cdpam": cdpam,
    "clap": clap,
    "mert": mert,
    "music2latent": music2latent,
    "vggish": vggish,
}


def main() -> None:
    """Write a case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=sorted(CASES))
    parser.add_argument("source", type=Path, help="the authors' file or folder")
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    arrays = CASES[options.case](options.source)
    np.savez_compressed(options.target, **arrays)
    print(f"{options.target}: {options.target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
