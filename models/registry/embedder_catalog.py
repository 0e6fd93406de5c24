"""Embedders that can be pulled: where their weights are, under which terms."""

from stemwright.models.manifest import Licence
from stemwright.models.registry.catalog_kinds import CatalogModel, PypiSource, WebSource

_MAX_CLAP_BYTES = 2_600_000_000
_CDPAM_LICENCE = Licence(
    name="MIT",
    text="The package cdpam 0.0.6 declares the MIT License for itself, the weights in it included; the wheel "
    "holds no text of it. Authors: P. Manocha, Z. Jin, R. Zhang, A. Finkelstein.",
    url="https://pypi.org/project/cdpam/0.0.6/",
)
_CDPAM_WHEEL = PypiSource(
    label="wheel cdpam 0.0.6",
    package="cdpam",
    version="0.0.6",
    wheel_sha256="abd860166a55ada94cb653997deed481b518e3a593e9b417a969f99522009eba",
    member="cdpam/CDPAM_trained/scratchJNDdefault_best_model.pth",
    member_sha256="453c8b6edee1a94f0120236156436ff28fe4d8d884485e4a67695c8e8570bdfe",
    member_bytes=106_120_042,
)


def _cdpam(name: str, half: str) -> CatalogModel:
    return CatalogModel(
        name=name,
        kind="embedder",
        like=name,
        signature="scratchJNDdefault_best_model",
        architecture=name,
        stems=(),
        description=f"Embedder CDPAM, {half} half: perceptual distance of sounds, 22.05 kHz",
        licence=_CDPAM_LICENCE,
        sources=(_CDPAM_WHEEL,),
        content_sha256="0f847a8abbe60525bfd854af71497b7f09455b89c2db180b82e9e0276f931e7b",
    )


CDPAM = _cdpam("cdpam", "acoustic")
CDPAM_CONTENT = _cdpam("cdpam-content", "content")

_NON_COMMERCIAL = (
    "Creative Commons Attribution-NonCommercial 4.0: not for commercial use; the authors are to be named."
)
_HUB = "https://huggingface.co"

MERT = CatalogModel(
    name="mert-v1-95m",
    kind="embedder",
    like="mert-v1-95m",
    signature="pytorch_model",
    architecture="mert-v1-95m",
    stems=(),
    description="Embedder MERT v1 95M, layer 12: best agreement with listeners, 24 kHz",
    licence=Licence(
        name="CC-BY-NC-4.0",
        text=f"MERT by Y. Li et al. (m-a-p). {_NON_COMMERCIAL}",
        url="https://creativecommons.org/licenses/by-nc/4.0/",
        must_accept=True,
    ),
    sources=(
        WebSource(
            label="authors' repository on the Hugging Face hub",
            url=f"{_HUB}/m-a-p/MERT-v1-95M/resolve/main/pytorch_model.bin",
            file_name="pytorch_model.bin",
        ),
    ),
)

MUSIC2LATENT = CatalogModel(
    name="music2latent",
    kind="embedder",
    like="music2latent",
    signature="music2latent",
    architecture="music2latent",
    stems=(),
    description="Embedder Music2Latent: encoder of a codec for music, 44.1 kHz",
    licence=Licence(
        name="CC-BY-NC-4.0",
        text=f"Music2Latent by M. Pasini, S. Lattner, G. Fazekas (Sony CSL Paris). {_NON_COMMERCIAL}",
        url="https://creativecommons.org/licenses/by-nc/4.0/",
        must_accept=True,
    ),
    sources=(
        WebSource(
            label="authors' repository on the Hugging Face hub",
            url=f"{_HUB}/SonyCSLParis/music2latent/resolve/main/music2latent.pt",
            file_name="music2latent.pt",
        ),
    ),
)


def _clap(name: str, file_name: str, sha256_prefix: str, description: str) -> CatalogModel:
    return CatalogModel(
        name=name,
        kind="embedder",
        like=name,
        signature=file_name.removesuffix(".pt"),
        architecture=name,
        stems=(),
        description=description,
        licence=Licence(
            name="CC0-1.0",
            text="LAION-CLAP by Y. Wu, K. Chen et al.: the checkpoint is dedicated to the public domain.",
            url="https://creativecommons.org/publicdomain/zero/1.0/",
        ),
        sources=(
            WebSource(
                label="authors' repository on the Hugging Face hub",
                url=f"{_HUB}/lukewys/laion_clap/resolve/main/{file_name}",
                file_name=file_name,
                sha256_prefix=sha256_prefix,
                max_bytes=_MAX_CLAP_BYTES,
            ),
        ),
    )


CLAP_AUDIO = _clap(
    "clap-laion-audio",
    "630k-audioset-best.pt",
    "",
    "Embedder LAION-CLAP for sounds (HTSAT-tiny), 48 kHz; a file of 1.9 GB",
)
CLAP_MUSIC = _clap(
    "clap-laion-music",
    "music_audioset_epoch_15_esc_90.14.pt",
    "fae3e9c0",
    "Embedder LAION-CLAP for music (HTSAT-base), 48 kHz; a file of 2.4 GB",
)

VGGISH = CatalogModel(
    name="vggish",
    kind="embedder",
    like="vggish",
    signature="vggish-10086976",
    architecture="vggish",
    stems=(),
    description="Embedder VGGish: the first of Fréchet audio distances, 16 kHz",
    licence=Licence(
        name="Apache-2.0",
        text="VGGish by Google (tensorflow/models), converted by H. Taylor (harritaylor/torchvggish): Apache "
        "License 2.0.",
        url="https://www.apache.org/licenses/LICENSE-2.0",
    ),
    sources=(
        WebSource(
            label="release of torchvggish",
            url="https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
            file_name="vggish-10086976.pth",
            sha256_prefix="10086976",
        ),
    ),
)

EMBEDDERS: tuple[CatalogModel, ...] = (
    MERT,
    MUSIC2LATENT,
    CLAP_AUDIO,
    CLAP_MUSIC,
    VGGISH,
    CDPAM,
    CDPAM_CONTENT,
)
