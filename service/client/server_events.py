"""Server-sent events, from lines of text.

References
----------
WHATWG HTML, section 9.2.6, interpreting an event stream.
"""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ServerEvent:
    """An event: its kind, its data, and the id to go on behind."""

    kind: str
    data: str
    id: str


async def server_events(lines: AsyncIterable[str]) -> AsyncIterator[ServerEvent]:
    """Yield the events of a stream; one that breaks off in the middle is dropped."""
    kind, data, last_id = "message", list[str](), ""
    async for line in lines:
        if not line:
            if data:
                yield ServerEvent(kind=kind, data="\n".join(data), id=last_id)
            kind, data = "message", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "data":
            data.append(value)
        elif name == "id" and "\0" not in value:
            last_id = value
