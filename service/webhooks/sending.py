"""One attempt to deliver a webhook."""

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from stemwright.service.webhooks.addresses import (
    RefusedAddressError,
    Resolve,
    Target,
    WebhookRules,
    check_url,
    resolve,
)

TIMEOUT_S = 15.0
"""For the whole exchange, from connecting to the last byte of the answer."""
MAX_ANSWER_BYTES = 64 << 10


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How an attempt ended.

    Parameters
    ----------
    delivered
        The receiver took it (2xx).
    hopeless
        It will never be taken: trying again makes no sense.
    note
        What came, in one line.
    """

    delivered: bool
    hopeless: bool = False
    note: str = ""


def send(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    rules: WebhookRules,
    timeout_s: float = TIMEOUT_S,
    lookup: Resolve | None = None,
    trust: ssl.SSLContext | None = None,
) -> Attempt:
    """Send a message once. Redirects are not followed, and no proxy is used.

    Parameters
    ----------
    url, body, headers
        What to send where.
    rules
        What is allowed.
    timeout_s
        For all of it.
    lookup
        Resolves names; None for the system's resolver.
    trust
        Whom https trusts; None for the system's authorities.
    """
    try:
        target = check_url(url, rules)
        addresses = resolve(target, rules, lookup)
    except RefusedAddressError as error:
        return Attempt(delivered=False, hopeless=True, note=error.message)
    except OSError as error:
        return Attempt(delivered=False, note=f"{type(error).__name__}: {error}")
    try:
        with _connected(target, addresses, timeout_s, trust) as connection:
            connection.request("POST", target.path, body, {**_standing(target), **headers})
            answer = connection.getresponse()
            answer.read(MAX_ANSWER_BYTES)
            return _judge(answer.status)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Attempt(delivered=False, note=f"{type(error).__name__}: {error}"[:300])


def _standing(target: Target) -> dict[str, str]:
    return {
        "Host": target.authority,
        "User-Agent": f"stemwright/{version('stemwright')}",
        "Content-Type": "application/json",
        "Connection": "close",
    }


def _judge(status: int) -> Attempt:
    note = f"HTTP {status}"
    if 200 <= status < 300:
        return Attempt(delivered=True, note=note)
    if 300 <= status < 400:
        return Attempt(delivered=False, note=f"{note}; redirects are not followed")
    # Standard Webhooks: 410 means that the receiver wants no more of them
    return Attempt(delivered=False, hopeless=status == http.HTTPStatus.GONE, note=note)


@contextlib.contextmanager
def _connected(
    target: Target, addresses: tuple[str, ...], timeout_s: float, trust: ssl.SSLContext | None
) -> Iterator[http.client.HTTPConnection]:
    """Connect to the first of the checked addresses that answers; all is over after the time."""
    connection = http.client.HTTPConnection(target.host, target.port, timeout=timeout_s)
    sock = _dial(addresses, target.port, timeout_s)
    held = [sock]
    watch = threading.Timer(timeout_s, _cut, [held])
    watch.daemon = True
    watch.start()
    try:
        if target.scheme == "https":
            context = trust or ssl.create_default_context()
            wrapped = context.wrap_socket(sock, server_hostname=target.host, do_handshake_on_connect=False)
            held[0] = wrapped
            wrapped.do_handshake()
        connection.sock = held[0]  # connected already, to an address that was checked
        yield connection
    finally:
        watch.cancel()
        connection.close()
        held[0].close()


def _dial(addresses: tuple[str, ...], port: int, timeout_s: float) -> socket.socket:
    failure: OSError = OSError("no address")
    for address in addresses:
        try:
            return socket.create_connection((address, port), timeout_s / len(addresses))
        except OSError as error:
            failure = error
    raise failure


def _cut(held: list[socket.socket]) -> None:
    """End a connection under whoever is waiting for it: a drop a second never times out by itself."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(held[0], socket.SHUT_RDWR)
