"""The stored case: made by formula, and a judge of what a session computes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError
from stemwright.models.demucs.parity_case import (
    CASES_DIR,
    LIMIT_DB,
    WINDOW,
    WINDOWS,
    ParityCase,
    chosen_samples,
    parity_piece,
    run_parity,
)
from stemwright.models.manifest import (
    MANIFEST_FILE,
    Graph,
    GraphInput,
    GraphOutput,
    Manifest,
    WeightsOrigin,
    read_manifest,
)
from tests.support.tiny_models import install_tiny_model

DIGEST = "fccc4ce39611291928c42568dc5e59dcaf29efc7b716845c8abcad0233540589"


@pytest.fixture(scope="module")
def case() -> ParityCase:
    return ParityCase.read(CASES_DIR / "htdemucs.npz")


class Answers:
    """A session that gives prepared stems."""

    graph = Graph(
        inputs=(GraphInput(name="mixture", role="waveform"),),
        outputs=(GraphOutput(name="stems", role="waveform"),),
    )

    def __init__(self, case: ParityCase, error: float) -> None:
        starts = np.linspace(0, case.samples - WINDOW, WINDOWS).astype(np.int64)
        places = (starts[:, None] + np.arange(WINDOW)).reshape(-1)
        self.stems = np.zeros((*case.expected.shape[:2], case.samples), np.float32)
        self.stems[..., places] = case.expected
        self.stems[1] += error
        self.seen: list[FloatArray] = []

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        self.seen.append(inputs["mixture"])
        return {"stems": self.stems[None]}


def model_with(folder: Path, digest: str) -> Path:
    installed = install_tiny_model(folder, "m")
    manifest = read_manifest(installed)
    assert isinstance(manifest, Manifest)
    manifest = manifest.model_copy(update={"origin": WeightsOrigin(content_sha256=digest)})
    (installed / MANIFEST_FILE).write_text(manifest.model_dump_json())
    return installed


def test_stored_case_is_small_and_for_the_known_weights(case: ParityCase) -> None:
    assert (CASES_DIR / "htdemucs.npz").stat().st_size < 200_000
    assert case.content_sha256 == DIGEST
    assert case.expected.shape == (4, 2, WINDOWS * WINDOW)
    levels = np.sqrt(np.mean(case.expected.astype(np.float64) ** 2, axis=(1, 2)))
    assert levels.min() > 0.1  # every stem sounds, so that an error in any would show


def test_piece_is_normalised_and_the_same_each_time(case: ParityCase) -> None:
    piece = parity_piece(case.samples)
    mono = piece.astype(np.float64).mean(axis=0)
    assert abs(mono.mean()) < 1e-6
    assert abs(mono.std() - 1) < 1e-4
    np.testing.assert_array_equal(piece, case.piece)
    # Values written down when the case was made.
    assert np.round(piece[0, [0, 1000, 100_000, 343_979]].astype(float), 4).tolist() == PIECE_SAMPLES


PIECE_SAMPLES = [0.7709, 2.0301, -0.6328, 0.9365]


def test_right_answer_passes(case: ParityCase, tmp_path: Path) -> None:
    session = Answers(case, 1e-5)
    record = run_parity(model_with(tmp_path, DIGEST), session)
    assert record is not None
    assert record.reference == case.reference
    level = 10 * np.log10(np.mean(case.piece.astype(np.float64) ** 2))
    assert record.max_error_db == pytest.approx(-100 - level, abs=0.2)
    assert session.seen[0].shape == (1, 2, case.samples)


@pytest.mark.parametrize("error", [1e-2, np.nan, np.inf])
def test_wrong_answer_fails(case: ParityCase, tmp_path: Path, error: float) -> None:
    with pytest.raises(ModelFileError, match=f"the limit is {LIMIT_DB:.0f} dB"):
        run_parity(model_with(tmp_path, DIGEST), Answers(case, error))


def test_nothing_is_claimed_of_other_weights(case: ParityCase, tmp_path: Path) -> None:
    session = Answers(case, 0.0)
    assert run_parity(model_with(tmp_path, "0" * 64), session) is None
    assert not session.seen


def test_case_is_written_and_read(case: ParityCase, tmp_path: Path) -> None:
    case.write(tmp_path / "case.npz")
    read = ParityCase.read(tmp_path / "case.npz")
    assert (read.content_sha256, read.reference, read.samples) == (
        case.content_sha256,
        case.reference,
        case.samples,
    )
    np.testing.assert_array_equal(read.expected, case.expected)


def test_chosen_samples_reach_from_end_to_end() -> None:
    ramp = np.arange(100_000, dtype=np.float32)[None, None]
    chosen = chosen_samples(ramp)[0, 0]
    assert (chosen[0], chosen[-1], len(set(chosen.tolist()))) == (0, 99_999, WINDOWS * WINDOW)
