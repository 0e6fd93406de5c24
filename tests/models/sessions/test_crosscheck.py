"""A runtime that computes a model wrongly on this machine is found out and not used."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import DeviceError
from stemwright.models.registry.store import InstalledModel, open_model
from stemwright.models.sessions.crosscheck import ALLOWED_DB, crosscheck
from stemwright.models.sessions.opening import SessionOptions, open_session
from tests.support.tiny_models import install_tiny_model

openvino = pytest.importorskip("stemwright.models.sessions.runtimes.openvino", reason="needs openvino")


@pytest.fixture
def model(tmp_path: Path) -> InstalledModel:
    opened = open_model(install_tiny_model(tmp_path / "models"))
    assert isinstance(opened, InstalledModel)
    return opened


def options(tmp_path: Path, device: str) -> SessionOptions:
    return SessionOptions(cache_dir=tmp_path / "cache", device=device)


@pytest.fixture
def wrong_openvino(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """OpenVINO whose stems have an error of this factor; change the item to change it."""
    factor = [0.05]
    run = openvino.OpenVinoSession.run

    def wrong(self: object, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        return {name: array * np.float32(1 + factor[0]) for name, array in run(self, inputs).items()}

    monkeypatch.setattr(openvino.OpenVinoSession, "run", wrong)
    return factor


def test_a_right_runtime_is_compared_once(
    model: InstalledModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        open_session(model, options(tmp_path, "openvino")).close()
    assert sum("comparing one window" in record.message for record in caplog.records) == 1
    (kept,) = (tmp_path / "cache" / "checks").glob("*.json")
    assert json.loads(kept.read_text())["agrees"] is True


def test_the_error_is_told_in_db(model: InstalledModel, tmp_path: Path, wrong_openvino: list[float]) -> None:
    wrong_openvino[0] = 0.0
    session = open_session(model, options(tmp_path, "openvino"))
    for factor in (0.1, 0.001):
        wrong_openvino[0] = factor
        verdict = crosscheck(model, session, tmp_path / str(factor))
        assert verdict is not None
        assert verdict.error_db == pytest.approx(20 * np.log10(factor), abs=0.1)
        assert verdict.agrees == (verdict.error_db <= ALLOWED_DB["float32"])
    session.close()


def test_a_wrong_runtime_that_was_asked_for_is_refused(
    model: InstalledModel, tmp_path: Path, wrong_openvino: list[float]
) -> None:
    for _ in range(2):  # computed, then recalled
        with pytest.raises(DeviceError, match=r"openvino computes wrongly here.* -26 dB") as caught:
            open_session(model, options(tmp_path, "openvino"))
        assert "--device cpu" in caught.value.remedy


def test_auto_leaves_a_wrong_runtime_out_and_says_so(
    model: InstalledModel, tmp_path: Path, wrong_openvino: list[float]
) -> None:
    session = open_session(model, options(tmp_path, "auto"))
    assert session.facts.provider == "cpu"
    assert "not openvino: its stems of tiny differ from the CPU's by -26 dB" in session.facts.chosen_because
    session.close()


def test_values_that_are_not_finite_are_wrong(
    model: InstalledModel, tmp_path: Path, wrong_openvino: list[float]
) -> None:
    wrong_openvino[0] = float("nan")
    with pytest.raises(DeviceError, match="computes wrongly"):
        open_session(model, options(tmp_path, "openvino"))
