from pathlib import Path

import pytest

from stemwright.models.conv_tasnet.configs import MUSIC, PAPER, PAPER_CAUSAL, TORCHAUDIO, ConvTasNetConfig
from stemwright.models.registry.store import InstalledModel, open_model
from stemwright.models.sessions.opening import SessionOptions, open_session
from tests.models.contract import assert_keeps_contract
from tests.support.conv_tasnet import install_conv_tasnet, small

STEMS = ("drums", "bass", "other", "vocals")


def check(folder: Path, provider: str) -> None:
    model = open_model(folder)
    assert isinstance(model, InstalledModel)
    session = open_session(model, SessionOptions(cache_dir=folder.parent / "cache", device=provider))
    assert_keeps_contract(model.manifest, session)
    session.close()


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
@pytest.mark.parametrize("name", ["paper", "causal", "music"])
def test_small_networks_keep_the_contract(tmp_path: Path, name: str, provider: str) -> None:
    config = {"paper": small(PAPER), "causal": small(PAPER_CAUSAL), "music": small(MUSIC)}[name]
    stems = STEMS if name == "music" else None
    check(install_conv_tasnet(tmp_path, config, stems=stems, window=80 * config.hop), provider)


@pytest.mark.slow
@pytest.mark.parametrize("config", [TORCHAUDIO, PAPER_CAUSAL, MUSIC], ids=["speech", "causal", "music"])
def test_networks_of_true_size_keep_the_contract(tmp_path: Path, config: ConvTasNetConfig) -> None:
    # Half a second a call: what is checked does not depend on it, and eight seconds take minutes.
    samples = config.sample_rate // 2 // config.hop * config.hop
    stems = STEMS if config is MUSIC else None
    check(install_conv_tasnet(tmp_path, config, stems=stems, window=samples), "cpu")
