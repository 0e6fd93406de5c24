"""Client of a stemwright service.

    with Client("http://localhost:8000") as client:
        job = client.wait(client.submit("song.flac", model="htdemucs").id)
        client.download(job, "separated/song")

`AsyncClient` has the same methods as coroutines. Errors are those of the engine (core/errors.py), by the code
that the service tells.
"""

from stemwright.service.client.asynchronous import AsyncClient
from stemwright.service.client.synchronous import Client
from stemwright.service.client.views import Event, Job, ModelFacts, Stem

__all__ = ["AsyncClient", "Client", "Event", "Job", "ModelFacts", "Stem"]
