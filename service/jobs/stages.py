"""The stages of a job: what each does, given the result of the one before. No job engine in here."""

import json
import mimetypes
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from stemwright.core.audio.encode import OutputFormat
from stemwright.core.errors import InternalError
from stemwright.models.separation.pipeline import CancelToken
from stemwright.models.separation.separator import SeparationOptions
from stemwright.service.asking import Wishes
from stemwright.service.isolation.decoders import Decoders
from stemwright.service.jobs.bench import PATIENCE_S, Bench
from stemwright.service.jobs.database import Database, patient
from stemwright.service.jobs.detecting import detected
from stemwright.service.jobs.ending import drop_upload
from stemwright.service.jobs.ledger import Attempt
from stemwright.service.jobs.model import DetectWish, JobSpec
from stemwright.service.jobs.warm import WarmEngines
from stemwright.service.jobs.watching import Gauge
from stemwright.service.naming import safe_name, same_file_key
from stemwright.service.places import Place, PlacedFile
from stemwright.service.results import TrackResult
from stemwright.service.storage import Storage, attempt_prefix, result_key
from stemwright.service.tracks import Engine, Recording, TrackOptions, separate_to_files

# As of `stemwright separate --auto`.
_DEFAULT_LEVEL = 2
_RESULT = PurePosixPath("result.json")
_MIME = {"wav": "audio/wav", "flac": "audio/flac", "mp3": "audio/mpeg", "ogg": "audio/ogg",
         "m4a": "audio/mp4", "stem.mp4": "audio/mp4"}  # fmt: skip
# What `JobSpec.remainder` is called by the engine.
_REMAINDER = {None: None, "mixture": "subtract", "network": "network"}


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What stages work with.

    Parameters
    ----------
    storage, database
        Where files and rows are.
    engines
        Open models.
    decoders
        Start the processes that read recordings.
    scratch
        This worker's own folder for files in work.
    max_audio_s
        Longest recording that is taken.
    """

    storage: Storage
    database: Database
    engines: WarmEngines
    decoders: Decoders
    scratch: Path
    max_audio_s: float

    def bench(self, attempt: Attempt) -> Bench:
        """Return what an attempt works with; a context manager."""
        return Bench(
            attempt=attempt,
            storage=self.storage,
            decoders=self.decoders,
            folder=self.scratch / attempt.run,
            max_audio_s=self.max_audio_s,
        )

    def probe(self, bench: Bench) -> dict[str, Any]:
        """Find out what the recording is, and refuse what cannot be separated.

        Raises
        ------
        InputError
            It is no audio, or too long.
        GoneError
            It has expired.
        """
        recording = bench.recording()
        info = recording.info
        if bench.attempt.spec.evaluate:
            from stemwright.service.jobs.evaluating import check_references  # loads what only scores need

            check_references(bench)
        return {"seconds": recording.seconds, "sample_rate": info.sample_rate, "channels": info.channels}

    def separate(self, bench: Bench, gauge: Gauge, cancel: CancelToken) -> dict[str, Any]:
        """Separate the recording, and store the stems where nobody looks yet.

        Returns
        -------
        dict
            `run` that the files lie under, `stems` as StemView has them, `result` and `seconds`.
        """
        attempt, out = bench.attempt, bench.folder / "stems"
        if attempt.spec.detect is not None:
            return self._detect(bench, attempt.spec.detect, gauge, cancel)
        options = self._options(bench)
        result = self.engines.use(
            attempt.spec.model or "",
            lambda engine: self._files(bench, engine, options, out, gauge, cancel),
        )
        stems = self._store(attempt, result, out, gauge, cancel)
        return {"run": attempt.run, "stems": stems, "result": result.as_dict(), "seconds": result.seconds}

    def evaluate(
        self, bench: Bench, made: dict[str, Any] | None, gauge: Gauge, cancel: CancelToken
    ) -> dict[str, Any]:
        """Score what `separate` has made, or what the job names; return it as `separate` does."""
        from stemwright.service.jobs import evaluating  # loads what only scores need

        attempt, wish = bench.attempt, bench.attempt.spec.score
        if wish is not None:
            other = evaluating.estimates_of_job(self.database, wish, attempt.owner)
            result = evaluating.evaluate_uploads(bench, wish, other, gauge, cancel)
            return {"run": attempt.run, "stems": [], "result": result, "seconds": result["seconds"]}
        if made is None:
            raise InternalError("nothing was separated that could be scored", "report it")
        any_order = self.engines.interchangeable(attempt.spec.model or "")
        estimates = evaluating.Estimates.of_result(made["stems"], made["result"], any_order=any_order)
        scores = evaluating.evaluate_stems(bench, estimates, gauge, cancel)
        return {**made, "result": {**made["result"], "evaluation": scores}}

    def publish(self, attempt: Attempt, made: dict[str, Any]) -> None:
        """Put the result beside the stems; what other attempts left is removed."""
        text = json.dumps({"stems": made["stems"], "result": made["result"]}, ensure_ascii=False)
        patient(lambda: self.storage.write_bytes(result_key(attempt.job_id), text.encode()), PATIENCE_S)
        patient(lambda: self.drop_attempts(attempt.job_id, keep=made["run"]), PATIENCE_S)

    def tidy(self, attempt: Attempt) -> None:
        """Remove the recording of a job that has succeeded, unless another job needs it."""
        for upload in filter(None, {attempt.upload_id, attempt.spec.query_audio, *attempt.spec.uploads}):
            patient(lambda upload=upload: drop_upload(self.database, self.storage, upload), PATIENCE_S)  # type: ignore[misc]

    def drop_attempts(self, job_id: str, *, keep: str | None) -> int:
        """Remove the files of all attempts but one; return how many attempts."""
        others = [run for run in self.storage.folders(f"jobs/{job_id}/separate") if run != keep]
        for run in others:
            self.storage.delete_tree(attempt_prefix(job_id, "separate", run))
        return len(others)

    def drop_attempt(self, attempt: Attempt) -> None:
        """Remove what an attempt has stored."""
        self.storage.delete_tree(attempt_prefix(attempt.job_id, "separate", attempt.run))

    def _detect(self, bench: Bench, wish: DetectWish, gauge: Gauge, cancel: CancelToken) -> dict[str, Any]:
        """Hear which sounds are in the recording; no files come of it."""
        tagger = self.engines.tagger(bench.attempt.spec.model or "")
        recording = bench.recording()
        result = detected(recording, wish, tagger, gauge, cancel, expected_s=recording.seconds or 0.0)
        return {"run": bench.attempt.run, "stems": [], "result": result, "seconds": result["duration_s"]}

    def _options(self, bench: Bench) -> TrackOptions:
        """Return what is asked of the engine, the sounds that were asked for looked up or heard."""
        spec = bench.attempt.spec
        wishes = Wishes(
            labels=spec.query,
            examples=(bench.example(spec.query_audio),) if spec.query_audio is not None else (),
            levels=(spec.level or _DEFAULT_LEVEL,) if spec.auto else (),
        )
        return self.engines.ask(spec.model or "", wishes, track_options(spec), bench.recording())

    def _files(
        self,
        bench: Bench,
        engine: Engine,
        options: TrackOptions,
        out: Path,
        gauge: Gauge,
        cancel: CancelToken,
    ) -> TrackResult:
        shutil.rmtree(out, ignore_errors=True)  # of a try that ran out of memory
        stems = engine.separator.output_stems(options.separation)
        place = placed(out, stems, options, bench.attempt.name)

        def opener(_source: str | Path, _options: TrackOptions) -> Recording:
            return bench.take_recording()

        return separate_to_files(
            engine, bench.path(), place, options, opener=opener, progress=gauge.follow, cancel=cancel
        )

    def _store(
        self, attempt: Attempt, result: TrackResult, out: Path, gauge: Gauge, cancel: CancelToken
    ) -> list[dict[str, Any]]:
        prefix = attempt_prefix(attempt.job_id, "separate", attempt.run)
        extension = attempt.spec.format
        stems = []
        for number, file in enumerate(result.files):
            if cancel.cancelled:
                break  # whoever cancelled raises
            source = out / file.path
            key = f"{prefix}/{number}.{extension}"
            stored = patient(lambda source=source, key=key: self.storage.put(source, key), PATIENCE_S)  # type: ignore[misc]
            stems.append(
                {
                    "name": "+".join(file.stems),
                    "stems": list(file.stems),
                    "file": file.path,
                    "size": stored.size,
                    "etag": stored.sha256,
                    "mime": _MIME.get(extension) or mimetypes.guess_type(file.path)[0],
                    "key": key,
                }
            )
            gauge.set(0.95 + 0.05 * (number + 1) / len(result.files))
        return stems


def track_options(spec: JobSpec) -> TrackOptions:
    """Return what a job asks of the engine, sounds that are asked for left out."""
    djs = spec.format == "stem.mp4"
    depth = "32f" if djs or spec.clip_mode == "float" else spec.bit_depth or "16"
    container = "wav" if spec.format == "stem.mp4" else spec.format
    if not djs and container not in ("wav", "flac"):
        depth = "16"  # has no meaning there
    return TrackOptions(
        separation=SeparationOptions(
            stems=spec.stems,
            complement_of=spec.two_stems,
            residual=spec.residual,
            remainder=_REMAINDER[spec.remainder],  # type: ignore[arg-type]
            overlap=spec.overlap,
            shifts=spec.shifts,
            seed=spec.seed,
        ),
        fmt=OutputFormat(container=container, bit_depth=depth, bitrate_kbps=spec.bitrate),
        layout="stem.mp4" if djs else "file_per_stem",
        clip_mode=spec.clip_mode,
    )


def placed(out: Path, stems: tuple[str, ...], options: TrackOptions, name: str) -> Place:
    """Name the files of a job: after their stems, or the one file of all stems after the recording."""
    if options.layout == "stem.mp4":
        file = PurePosixPath(f"{safe_name(Path(name).stem)}.stem.mp4")
        return Place(out=out, label="job", files=(PlacedFile(path=file, stems=stems),), result=_RESULT)
    taken: set[str] = set()
    files = []
    for stem in stems:
        path, number = PurePosixPath(f"{safe_name(stem)}.{options.extension}"), 2
        while same_file_key(path) in taken:
            path = PurePosixPath(f"{safe_name(stem)}-{number}.{options.extension}")
            number += 1
        taken.add(same_file_key(path))
        files.append(PlacedFile(path=path, stems=(stem,)))
    return Place(out=out, label="job", files=tuple(files), result=_RESULT)
