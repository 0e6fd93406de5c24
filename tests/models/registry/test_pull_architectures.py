"""Pulling checkpoints of the true architectures, with random weights, from a double of the official hosts."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from stemwright.core.errors import SourceUnavailableError
from stemwright.models.graphs.roles import model_inputs, stems_from_outputs
from stemwright.models.registry.catalog import (
    HDEMUCS_MMI,
    HTDEMUCS,
    HTDEMUCS_6S,
    HTDEMUCS_FT,
    CatalogEntry,
    CatalogModel,
    WebSource,
)
from stemwright.models.registry.downloads import Patience
from stemwright.models.registry.pull import PullOptions, pull
from stemwright.models.registry.sources import SourceSettings
from stemwright.models.registry.store import Installed, InstalledBag, InstalledModel, ModelStore, separating
from stemwright.models.registry.terms import accept_all
from stemwright.models.sessions.opening import SessionOptions, open_session
from tests.support.model_host import Hosted, ModelHost
from tests.support.official_files import (
    SIX,
    digest_of,
    network_of,
    random_state,
    safetensors_file,
    th_file,
)
from tests.support.tiny_workshop import Notes, assert_clean

pytestmark = pytest.mark.slow


def hosted_th(host: ModelHost, entry: CatalogModel, file: Path) -> CatalogModel:
    """Put a `.th` file on the host where the official one is; the entry with the file's own hash."""
    prefix = file.stem.partition("-")[2]
    sources = []
    for source in entry.sources:
        if not isinstance(source, WebSource):
            continue
        if source.sha256_prefix:
            url = source.url.replace(source.sha256_prefix, prefix)
            host.serve(url.removeprefix("https://dl.fbaipublicfiles.com"), Hosted(file.read_bytes()))
            source = WebSource(label=source.label, url=url, file_name=file.name, sha256_prefix=prefix)
        sources.append(source)
    return dataclasses.replace(entry, sources=tuple(sources))


def run_pull(entry_name: str, store: ModelStore, host: ModelHost) -> Installed:
    settings = SourceSettings(mirror=host.url, patience=Patience(attempts=2, backoff_s=0.0))
    options = PullOptions(settings=settings)
    return separating(pull(entry_name, store, ask=accept_all, options=options, reporter=Notes()))


@pytest.mark.parametrize(
    ("entry", "stems"),
    [(HTDEMUCS_6S, tuple(SIX)), (HDEMUCS_MMI, HTDEMUCS.stems)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_th_file_is_pulled_over_a_line_that_breaks(
    entry: CatalogModel,
    stems: tuple[str, ...],
    host: ModelHost,
    tmp_path: Path,
    catalog: dict[str, CatalogEntry],
) -> None:
    state = random_state(entry.architecture, seed=1)
    catalog[entry.name] = hosted_th(
        host, entry, th_file(entry.architecture, state, entry.signature, tmp_path)
    )
    (hosted,) = host.files.values()
    hosted.drops.append(20_000_000)
    store = ModelStore(tmp_path / "store")
    model = run_pull(entry.name, store, host)
    assert isinstance(model, InstalledModel)
    assert model.manifest.stems == stems
    assert model.manifest.origin.content_sha256 == digest_of(state)
    assert "published name" in model.manifest.origin.verified_by
    assert model.manifest.parity is None
    assert model.graph_path.stat().st_size < 1.1 * sum(t.numel() for t in state.values()) * 2
    assert any(request.range == "bytes=20000000-" for request in host.requests)
    store.verify(entry.name)


def test_the_safetensors_file_gives_the_references_output(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]
) -> None:
    state = random_state("htdemucs_6s", seed=2)
    data = safetensors_file("htdemucs_6s", state, "5c90dfd2", tmp_path).read_bytes()
    catalog["htdemucs_6s"] = dataclasses.replace(HTDEMUCS_6S, content_sha256=digest_of(state))
    sha256 = hashlib.sha256(data).hexdigest()
    path = "/adefossez/HTDemucs-6s/resolve/main/5c90dfd2.safetensors"
    host.serve(path, Hosted(data, headers={"X-Linked-ETag": f'"{sha256}"'}))
    model = run_pull("htdemucs_6s", ModelStore(tmp_path / "store"), host)
    assert isinstance(model, InstalledModel)
    assert model.manifest.origin.source == f"{host.url}{path}"
    samples = model.manifest.plan.input_samples
    mixture = np.random.default_rng(0).standard_normal((1, 2, samples)).astype(np.float32)
    options = SessionOptions(cache_dir=tmp_path, device="cpu", precision="float32")
    session = open_session(model, options)
    inputs = model_inputs(session.graph, mixture)
    outputs = session.run(inputs.arrays)
    session.close()
    ours = stems_from_outputs(session.graph, outputs, inputs.spectrum, samples)
    with torch.no_grad():
        theirs = network_of("htdemucs_6s", state)(torch.from_numpy(mixture)).numpy()
    error = np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(theirs**2))
    assert error < 1e-3


def test_the_bag_of_specialists(host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]) -> None:
    state = random_state("htdemucs", seed=3)
    members, digests = [], []
    for index, member in enumerate(HTDEMUCS_FT.members):
        state["encoder.0.conv.bias"] += index  # four networks by one that took its time to make
        digests.append(digest_of(state))
        file = th_file("htdemucs", state, member.model.signature, tmp_path)
        members.append(dataclasses.replace(member, model=hosted_th(host, member.model, file)))
        file.unlink()
    catalog["htdemucs_ft"] = dataclasses.replace(HTDEMUCS_FT, members=tuple(members))
    store = ModelStore(tmp_path / "store")
    bag = run_pull("htdemucs_ft", store, host)
    assert isinstance(bag, InstalledBag)
    assert [m.model.manifest.origin.content_sha256 for m in bag.members] == digests
    assert [m.weights.index(1.0) for m in bag.members] == [0, 1, 2, 3]
    assert_clean(store, "htdemucs_ft", *(m.model.name for m in bag.members))


def test_weights_of_another_architecture_are_refused(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]
) -> None:
    state = random_state("htdemucs_6s", seed=4)
    catalog["htdemucs"] = hosted_th(host, HTDEMUCS, th_file("htdemucs_6s", state, "955717e8", tmp_path))
    with pytest.raises(SourceUnavailableError, match="checkpoint of htdemucs_6s, not of htdemucs"):
        run_pull("htdemucs", ModelStore(tmp_path / "store"), host)
