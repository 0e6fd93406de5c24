"""Downloads against a local host with the faults that real ones have."""

import errno
import hashlib
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from stemwright.core.errors import ModelFileError, OutputError, ResourceError, SourceUnavailableError
from stemwright.models.registry import downloads
from stemwright.models.registry.downloads import Downloaded, Expected, Patience, Progress, download
from tests.support.model_host import Hosted, ModelHost

DATA = np.random.default_rng(3).bytes(3_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
NO_ETAG = ""


class Recorder:
    """Progress callback and clock."""

    def __init__(self) -> None:
        self.steps: list[Progress] = []
        self.waits: list[float] = []

    def __call__(self, progress: Progress) -> None:
        self.steps.append(progress)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


def fetch(
    url: str, target: Path, expected: Expected | None = None, recorder: Recorder | None = None
) -> Downloaded:
    recorder = recorder or Recorder()
    return download(
        url,
        target,
        expected or Expected(sha256=SHA256),
        patience=Patience(read_s=5.0),
        progress=recorder,
        sleep=recorder.sleep,
    )


def assert_only(folder: Path, *names: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_whole_file_with_hash_and_progress(host: ModelHost, tmp_path: Path) -> None:
    recorder = Recorder()
    got = fetch(host.serve("/a/m.th", Hosted(DATA)), tmp_path / "new" / "m.th", recorder=recorder)
    assert (got.sha256, got.size) == (SHA256, len(DATA))
    assert got.path.read_bytes() == DATA
    assert recorder.steps[0] == Progress(done=0, total=len(DATA))
    assert recorder.steps[-1] == Progress(done=len(DATA), total=len(DATA))
    assert_only(tmp_path / "new", "m.th")


def test_a_broken_line_is_taken_up_where_it_broke(host: ModelHost, tmp_path: Path) -> None:
    url = host.serve("/m", Hosted(DATA, drops=[1_000_000, 40_000]))
    recorder = Recorder()
    assert fetch(url, tmp_path / "m", recorder=recorder).path.read_bytes() == DATA
    assert [request.range for request in host.requests] == ["", "bytes=1000000-", "bytes=1040000-"]
    assert host.requests[1].if_range == f'"{SHA256}"'
    assert recorder.waits == [1.0, 2.0]
    assert_only(tmp_path, "m")


def test_a_later_run_goes_on_and_hashes_the_whole(host: ModelHost, tmp_path: Path) -> None:
    hosted = Hosted(DATA, drops=[1_500_000], refusals=[])
    url = host.serve("/m", hosted)
    patience = Patience(attempts=1)
    with pytest.raises(SourceUnavailableError):
        download(url, tmp_path / "m", Expected(sha256=SHA256), patience=patience)
    assert_only(tmp_path, "m.part", "m.part.json")
    assert fetch(url, tmp_path / "m").sha256 == SHA256
    assert host.requests[-1].range == "bytes=1500000-"


@pytest.mark.parametrize("fault", ["ignores ranges", "no etag", "weak etag", "file changed"])
def test_restarts_where_it_cannot_go_on(host: ModelHost, tmp_path: Path, fault: str) -> None:
    hosted = Hosted(DATA, drops=[1_000_000])
    hosted.ranges = fault != "ignores ranges"
    hosted.etag = {"no etag": NO_ETAG, "weak etag": 'W/"1"', "file changed": '"old"'}.get(fault)
    recorder = Recorder()
    url = host.serve("/m", hosted)

    def change(progress: Progress) -> None:
        if fault == "file changed" and progress.done == 1_000_000:
            hosted.etag = '"new"'

    got = download(url, tmp_path / "m", Expected(sha256=SHA256), progress=change, sleep=recorder.sleep)
    assert got.path.read_bytes() == DATA
    assert len(host.requests) == 2
    assert_only(tmp_path, "m")


def test_a_part_of_another_address_is_not_gone_on_with(host: ModelHost, tmp_path: Path) -> None:
    (tmp_path / "m.part").write_bytes(b"x" * 1000)
    (tmp_path / "m.part.json").write_text('{"url": "http://elsewhere/m", "etag": "\\"1\\""}')
    assert fetch(host.serve("/m", Hosted(DATA)), tmp_path / "m").sha256 == SHA256
    assert host.requests[0].range == ""


def test_a_part_longer_than_the_file_is_dropped(host: ModelHost, tmp_path: Path) -> None:
    url = host.serve("/m", Hosted(DATA))
    (tmp_path / "m.part").write_bytes(DATA + b"more")
    (tmp_path / "m.part.json").write_text(f'{{"url": "{url}", "etag": "\\"{SHA256}\\""}}')
    recorder = Recorder()
    assert fetch(url, tmp_path / "m", recorder=recorder).sha256 == SHA256
    assert recorder.waits == [0.0]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final(host: ModelHost, tmp_path: Path, status: int) -> None:
    url = host.serve("/m", Hosted(DATA, refusals=[status]))
    with pytest.raises(SourceUnavailableError, match=f"answered {status}"):
        fetch(url, tmp_path / "m")
    assert len(host.requests) == 1
    assert_only(tmp_path)


def test_a_server_in_trouble_is_asked_again_with_longer_waits(host: ModelHost, tmp_path: Path) -> None:
    recorder = Recorder()
    url = host.serve("/m", Hosted(DATA, refusals=[500, 503, 429]))
    assert fetch(url, tmp_path / "m", recorder=recorder).sha256 == SHA256
    assert recorder.waits == [1.0, 2.0, 4.0]


def test_a_server_in_lasting_trouble_is_given_up(host: ModelHost, tmp_path: Path) -> None:
    url = host.serve("/m", Hosted(DATA, refusals=[502] * 9))
    with pytest.raises(SourceUnavailableError, match="answered 502"):
        fetch(url, tmp_path / "m")
    assert len(host.requests) == 4


def test_real_progress_does_not_count_as_failure(host: ModelHost, tmp_path: Path) -> None:
    data = DATA * 3
    url = host.serve("/m", Hosted(data, drops=[1_100_000] * 8))
    got = fetch(url, tmp_path / "m", Expected(sha256=hashlib.sha256(data).hexdigest()))
    assert got.size == len(data)


def test_no_progress_ends_even_if_bytes_keep_coming(host: ModelHost, tmp_path: Path) -> None:
    url = host.serve("/m", Hosted(DATA, drops=[2_000_000] * 99, ranges=False))
    with pytest.raises(SourceUnavailableError, match="m: "):
        fetch(url, tmp_path / "m")
    assert len(host.requests) <= 6


@pytest.mark.parametrize("asked", [0, 7, 7200])
def test_retry_after_is_honoured_up_to_a_limit(host: ModelHost, tmp_path: Path, asked: int) -> None:
    url = host.serve("/m", Hosted(DATA, refusals=[503], refusal_headers={"Retry-After": str(asked)}))
    recorder = Recorder()
    fetch(url, tmp_path / "m", recorder=recorder)
    assert recorder.waits == [min(asked, 30)]


@pytest.mark.parametrize("wrong", ["0" * 64, "00000000"])
def test_a_wrong_hash_is_refused_and_nothing_kept(host: ModelHost, tmp_path: Path, wrong: str) -> None:
    url = host.serve("/m", Hosted(DATA))
    with pytest.raises(ModelFileError, match="not the expected file"):
        fetch(url, tmp_path / "m", Expected(sha256=wrong))
    assert_only(tmp_path)


def test_a_hash_prefix_is_enough(host: ModelHost, tmp_path: Path) -> None:
    assert fetch(host.serve("/m", Hosted(DATA)), tmp_path / "m", Expected(sha256=SHA256[:8])).size == len(
        DATA
    )


def test_the_announced_hash_is_taken_from_the_redirect_and_checked(host: ModelHost, tmp_path: Path) -> None:
    store = host.serve("/store/m", Hosted(DATA, drops=[500_000]))
    url = host.serve("/m", Hosted(redirect=store, headers={"X-Linked-ETag": f'"{SHA256}"'}))
    assert fetch(url, tmp_path / "m", Expected()).announced_sha256 == SHA256
    wrong = host.serve("/w", Hosted(redirect=store, headers={"X-Linked-ETag": "f" * 64}))
    with pytest.raises(ModelFileError, match="not the expected file"):
        fetch(wrong, tmp_path / "w", Expected())
    assert [request.range for request in host.requests[:4]] == ["", "", "bytes=500000-", "bytes=500000-"]


@pytest.mark.parametrize("told", [True, False])
def test_the_size_limit_holds(host: ModelHost, tmp_path: Path, told: bool) -> None:
    url = host.serve("/m", Hosted(DATA, length=told))
    with pytest.raises(ModelFileError, match="larger than 1 MB"):
        fetch(url, tmp_path / "m", Expected(max_bytes=1_000_000))
    assert_only(tmp_path)


def test_a_file_of_unknown_length_arrives(host: ModelHost, tmp_path: Path) -> None:
    recorder = Recorder()
    url = host.serve("/m", Hosted(DATA, length=False))
    assert fetch(url, tmp_path / "m", recorder=recorder).size == len(DATA)
    assert recorder.steps[-1] == Progress(done=len(DATA), total=None)


def test_an_empty_file_is_still_a_file(host: ModelHost, tmp_path: Path) -> None:
    assert fetch(host.serve("/m", Hosted()), tmp_path / "m", Expected()).path.read_bytes() == b""


def test_redirect_loops_and_senseless_addresses_end(host: ModelHost, tmp_path: Path) -> None:
    loop = host.serve("/loop", Hosted(redirect=f"{host.url}/loop"))
    for url in (loop, "ftp://127.0.0.1/m", "http://"):
        with pytest.raises(SourceUnavailableError):
            fetch(url, tmp_path / "m")


def test_a_compressed_answer_is_refused(host: ModelHost, tmp_path: Path) -> None:
    url = host.serve("/m", Hosted(DATA, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(SourceUnavailableError, match="compressed"):
        fetch(url, tmp_path / "m")


def test_a_host_that_is_not_there_is_given_up_at_once(host: ModelHost, tmp_path: Path) -> None:
    recorder = Recorder()
    with pytest.raises(SourceUnavailableError, match="cannot be reached"):
        fetch("http://127.0.0.1:9/m", tmp_path / "m", recorder=recorder)
    assert recorder.waits == []


def test_a_silent_host_times_out(host: ModelHost, tmp_path: Path) -> None:
    silence = threading.Event()
    url = host.serve("/m", Hosted(silence=silence))
    host.files["/m"].data = DATA
    with pytest.raises(SourceUnavailableError, match="in time"):
        download(url, tmp_path / "m", patience=Patience(attempts=1, read_s=0.2))
    silence.set()


def test_a_senseless_proxy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "gopher://proxy")
    monkeypatch.setenv("http_proxy", "gopher://proxy")
    with pytest.raises(SourceUnavailableError, match="proxy of the environment"):
        fetch("http://nowhere.invalid/m", tmp_path / "m")


def test_a_full_disk_is_told_before_the_first_byte(
    host: ModelHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(ResourceError, match="MB free"):
        fetch(host.serve("/m", Hosted(DATA)), tmp_path / "m")


def test_a_disk_that_fills_on_the_way_is_told(
    host: ModelHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: downloads._Part, stream: object, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloads._Part, "append", full)
    with pytest.raises(ResourceError, match="no space left"):
        fetch(host.serve("/m", Hosted(DATA)), tmp_path / "m")


def test_a_target_that_cannot_be_written_is_told(host: ModelHost, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        fetch(host.serve("/m", Hosted(DATA)), tmp_path / "file" / "m")
