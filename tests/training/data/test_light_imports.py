import subprocess
import sys
from pathlib import Path

import pytest

from stemwright.training.data.packing import open_data
from tests.support import data_folders

_HIDDEN = ("av", "librosa", "onnx", "onnxruntime", "platformdirs", "rapidfuzz", "soundfile", "soxr", "typer")

_PROGRAM = """
import sys
from pathlib import Path

import pytest
hidden = {hidden!r}
for name in hidden:
    sys.modules[name] = None
from stemwright.training.data.batches import batches
from stemwright.training.data.opening import open_source
import stemwright.training.augmentation
source = open_source(dict(kind="songs", path={pack!r}), sample_rate=8000, channels=2, samples=1000)
print([tuple(one.targets.shape) for one in batches(source, seed=0, batch_size=2, end_step=2)])
"""


@pytest.mark.slow
def test_packs_are_read_and_mixed_without_audio_libraries(tmp_path: Path) -> None:
    pack = open_data(data_folders.songs(tmp_path / "data"), cache=tmp_path / "cache")
    program = _PROGRAM.format(hidden=_HIDDEN, pack=str(pack.folder))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[(2, 4, 2, 1000), (2, 4, 2, 1000)]"
