"""Embedders that can be pulled: where their weights are, under which terms."""

from stemwright.models.manifest import Licence
from stemwright.models.registry.catalog_kinds import CatalogModel, PypiSource

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

EMBEDDERS: tuple[CatalogModel, ...] = (CDPAM, CDPAM_CONTENT)
