"""The universal network at its true size (random weights) with the tagger that is shipped, on real music."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import open_source
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.query.detection import detect
from stemwright.models.query.queries import AskedStem, QueryMaker
from stemwright.models.registry.store import open_model
from stemwright.models.separation.activity import Interval
from stemwright.models.separation.separator import SeparationOptions, Separator
from stemwright.models.sessions.runtimes.contract import SessionOptions
from stemwright.models.taggers.session import tagger_session
from stemwright.models.universal.building import UNIVERSAL
from stemwright.models.universal.configs import KLASS, ResUNetConfig
from stemwright.models.universal.network import ResUNet30
from tests.support.paths import EXAMPLES

pytestmark = pytest.mark.slow
CPU = SessionOptions(device="cpu", precision="float32")
SECONDS = 2.0


def random_model(folder: Path) -> Path:
    torch.manual_seed(0)
    net = ResUNet30(ResUNetConfig(condition_size=521))
    tensors = {name: value.numpy() for name, value in net.state_dict().items() if value.is_floating_point()}
    folder.mkdir()
    UNIVERSAL.build(
        Checkpoint(tensors=tensors, klass=KLASS, kind="torch"),
        name=folder.name,
        folder=folder,
        storage="float32",
    )
    return folder


def separated(
    separator: Separator, stems: tuple[AskedStem, ...]
) -> tuple[dict[str, FloatArray], dict[str, tuple[Interval, ...]]]:
    options = SeparationOptions(queries=tuple(stem.query for stem in stems))
    with (
        open_source(EXAMPLES / "excerpt.opus", end_s=SECONDS) as source,
        separator.separate(source, options) as separation,
    ):
        blocks = [block.stems for block in separation]
        joined = {name: np.concatenate([block[name] for block in blocks], axis=1) for name in blocks[0]}
        return joined, dict(separation.activity)


def test_labels_on_real_music(tmp_path: Path) -> None:
    model = open_model(random_model(tmp_path / "uss"))
    rules = getattr(model.manifest, "query", None)
    assert rules is not None
    tagger = tagger_session(rules.tagger, CPU)
    maker = QueryMaker(rules, tagger)
    with open_source(EXAMPLES / "excerpt.opus", end_s=SECONDS) as source:
        heard = detect(source, tagger)
    assert "Music" in [one.sound.name for one in heard.at_level(1)]
    with Separator.open([model], options=CPU) as separator:
        both, activity = separated(separator, maker.classes(["music", "helicopter"]))
        assert activity["helicopter"] == () and not both["helicopter"].any()
        assert activity["music"] and both["music"].any()
        assert all(np.isfinite(stem).all() for stem in both.values())
    assert next(stem.name for stem in maker.automatic(heard, [1])) == "music"
