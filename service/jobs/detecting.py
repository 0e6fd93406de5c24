"""A job that only listens: which sounds are in a recording, and when."""

from typing import Any

from stemwright.core.audio.source import AudioSource
from stemwright.core.errors import CancelledError
from stemwright.models.query.detection import detect
from stemwright.models.separation.pipeline import CancelToken
from stemwright.models.taggers.session import TaggerSession
from stemwright.service.jobs.model import DetectWish
from stemwright.service.jobs.watching import Gauge


def detected(
    source: AudioSource,
    wish: DetectWish,
    tagger: TaggerSession,
    gauge: Gauge,
    cancel: CancelToken,
    *,
    expected_s: float,
) -> dict[str, Any]:
    """Hear a recording; return what is in it as JSON-ready data, as `stemwright detect --json` does.

    Parameters
    ----------
    source
        The recording.
    wish
        What to show of it.
    tagger
        What hears.
    gauge, cancel
        Told how far it is; asked whether to go on.
    expected_s
        The recording's likely length.

    Raises
    ------
    CancelledError
        Somebody cancelled.
    InputError
        The recording cannot be read.
    """

    def on_progress(heard_s: float) -> None:
        if cancel.cancelled:
            raise CancelledError("the job was cancelled", "")
        gauge.set(heard_s / max(expected_s, heard_s))

    heard = detect(source, tagger, progress=on_progress)
    if wish.level is None:
        shown = heard.strongest(wish.top, threshold=wish.threshold)
    else:
        shown = heard.at_level(wish.level, threshold=wish.threshold)[: wish.top]
    return heard.as_dict(shown, threshold=wish.threshold)
