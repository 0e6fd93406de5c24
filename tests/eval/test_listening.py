"""Agreement with listeners: the published study's table, and what bad tables give."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from stemwright.core.errors import InputError, OptionError
from stemwright.eval.listening import Columns, Ratings, agreements, compare, read_ratings
from stemwright.service.cli.main import run
from tests.support.paths import shared

# Spearman and Pearson among discriminative models, then among generative ones: metrics.md, 4.1.
PUBLISHED = """
emb_mse_mert_df -0.762 -0.751 -0.713 -0.773
emb_mse_clap_music_df -0.734 -0.695 -0.676 -0.725
fad_song2song_clap_music_df -0.723 -0.690 -0.674 -0.728
multi_res_loss -0.656 -0.636 -0.720 -0.707
visqol 0.648 0.640 0.658 0.672
fad_song2song_mert_df -0.622 -0.618 -0.645 -0.691
emb_mse_clap_audio_df -0.732 -0.663 -0.610 -0.653
fad_song2song_clap_audio_df -0.728 -0.668 -0.605 -0.657
fad_song2song_music2latent_df -0.756 -0.689 -0.521 -0.647
emb_mse_music2latent_df -0.774 -0.706 -0.471 -0.631
xls_r_sqa 0.460 0.473 0.489 0.500
sir 0.613 0.648 0.410 0.451
singmos 0.453 0.478 0.320 0.367
tps 0.654 0.669 0.261 0.239
aps 0.621 0.600 0.261 0.230
meta_audiobox_aes_CU 0.499 0.496 0.212 0.242
sdr 0.672 0.618 0.176 0.216
sar 0.670 0.626 0.175 0.224
meta_audiobox_aes_PQ 0.511 0.514 0.141 0.147
sisdr 0.685 0.547 0.109 0.090
pam 0.462 0.491 0.099 0.206
isr 0.660 0.674 -0.089 0.065
ips 0.072 0.071 -0.076 0.103
ops 0.527 0.541 -0.066 0.069
"""


@pytest.fixture(scope="module")
def study() -> Path:
    return shared("data/fixtures/gensvs") / "gensvs_eval_data.csv"


@pytest.fixture(scope="module")
def ratings(study: Path) -> Ratings:
    return read_ratings(study)


def test_the_published_table(ratings: Ratings) -> None:
    found = {(one.metric, one.group): one for one in agreements(ratings, resamples=1)}
    for line in PUBLISHED.split("\n")[1:-1]:
        metric, *values = line.split()
        for kind, (spearman, pearson) in (("discriminative", values[:2]), ("generative", values[2:])):
            one = found[metric, kind]
            assert one.spearman.value == pytest.approx(float(spearman), abs=5.1e-4), (metric, kind)
            assert one.pearson.value == pytest.approx(float(pearson), abs=5.1e-4), (metric, kind)
    assert found["sdr", "melroformer_bigvgan"].spearman.value == pytest.approx(0.285, abs=5.1e-4)


@pytest.mark.slow
def test_the_published_intervals(study: Path) -> None:
    few = read_ratings(study, Columns(metrics=("emb_mse_mert_df", "sdr", "multi_res_loss")))
    found = {(one.metric, one.group): one.spearman for one in agreements(few)}
    for metric, kind, low, high in (
        ("emb_mse_mert_df", "discriminative", -0.839, -0.659),
        ("emb_mse_mert_df", "generative", -0.828, -0.545),
        ("multi_res_loss", "generative", -0.824, -0.573),
        ("sdr", "generative", 0.007, 0.324),
    ):
        interval = found[metric, kind]
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.03), (metric, kind)
    even = compare(few, "generative", "emb_mse_mert_df", "multi_res_loss")
    apart = compare(few, "generative", "emb_mse_mert_df", "sdr")
    assert (even.low, even.high) == pytest.approx((-0.09, 0.07), abs=0.03)
    assert (apart.low, apart.high) == pytest.approx((0.40, 0.66), abs=0.03)


def test_correlations_are_scipys(ratings: Ratings) -> None:
    members = np.array([kind == "generative" for kind in ratings.kinds])
    (one,) = [a for a in agreements(ratings, resamples=1) if (a.metric, a.group) == ("sar", "generative")]
    values, rating = ratings.metrics["sar"][members], ratings.rating[members]
    assert one.spearman.value == pytest.approx(scipy.stats.spearmanr(values, rating).statistic)
    assert one.pearson.value == pytest.approx(scipy.stats.pearsonr(values, rating).statistic)


def table(tmp_path: Path, rows: list[str]) -> Path:
    path = tmp_path / "ratings.csv"
    path.write_text("\n".join(["file_id,model_name,model_type,DMOS,score", *rows]))
    return path


def test_few_excerpts_have_no_interval(tmp_path: Path) -> None:
    rows = [f"song{index},m,k,{index},{index * index}" for index in range(7)]
    for one in agreements(read_ratings(table(tmp_path, rows))):
        assert one.spearman.value == pytest.approx(1)
        assert math.isnan(one.spearman.low)


def test_bad_tables(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 3: score is ''"):
        read_ratings(table(tmp_path, ["a,m,k,1,2", "b,m,k,1,"]))
    with pytest.raises(InputError, match="line 2: DMOS is 'good'"):
        read_ratings(table(tmp_path, ["a,m,k,good,2"]))
    with pytest.raises(InputError, match="has no rows"):
        read_ratings(table(tmp_path, []))
    with pytest.raises(OptionError, match="no column MOS"):
        read_ratings(table(tmp_path, ["a,m,k,1,2"]), Columns(rating="MOS"))
    with pytest.raises(OptionError, match="holds a metric"):
        read_ratings(table(tmp_path, ["a,m,k,1,2"]), Columns(rating="score"))
    with pytest.raises(InputError, match="cannot read"):
        read_ratings(tmp_path / "missing.csv")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"song{index},m,k,{index % 5},{(index * 7) % 11}" for index in range(12)]
    command = ["eval", "listening", str(table(tmp_path, rows)), "--resamples", "100"]
    assert run(command) == 0
    assert "12 stimuli" in capsys.readouterr().out
    assert run([*command, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {one["group"] for one in data["agreements"]} == {"k", "m"}
    assert run([*command, "--compare", "nothing"]) == 2


def test_a_metric_is_drawn_against_the_listeners(tmp_path: Path) -> None:
    ratings = tmp_path / "ratings.csv"
    rows = [f"{index},m,{'abc'[index % 2]},{index % 5},{index % 5 + 1},{-index}" for index in range(20)]
    ratings.write_text("\n".join(["file_id,model_name,model_type,DMOS,first,second", *rows]))
    picture = tmp_path / "plot.svg"
    command = ["eval", "listening", str(ratings), "--resamples", "100", "--plot", str(picture)]
    assert run(command) == 0
    text = picture.read_text()
    assert "first" in text and "Spearman 1.00" in text  # the stronger one, with its correlation
    assert run(command) == 2  # it exists
    assert run([*command, "--overwrite", "--plot-metric", "second"]) == 0
    assert "second" in picture.read_text()
    assert run([*command, "--overwrite", "--plot-metric", "third"]) == 2
    assert run(["eval", "listening", str(ratings), "--plot", str(tmp_path / "plot.gif")]) == 2
