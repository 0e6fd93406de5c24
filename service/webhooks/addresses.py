"""Where webhooks may go: not into the service's own network, whatever a name resolves to and when.

A name is resolved once for each delivery, all its addresses are checked, and the connection goes to a checked
address itself. A name that resolves differently the next moment (DNS rebinding) gains nothing.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import SplitResult, urlsplit

from stemwright.core.errors import OptionError

if TYPE_CHECKING:
    from stemwright.service.settings import Settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Sequence[str]]

# Addresses that wrap an IPv4 address, by which a gateway could reach it: RFC 6052 and RFC 8215 (NAT64).
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_LIKE = "write it like https://HOST/PATH"
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, kw_only=True)
class WebhookRules:
    """What is allowed beyond https to public addresses.

    Parameters
    ----------
    http
        Whether plain http is.
    networks
        Networks that may be called although they are not public.
    """

    http: bool = False
    networks: tuple[Network, ...] = ()

    @classmethod
    def from_settings(cls, settings: "Settings") -> Self:
        """Read the rules from the service's settings."""
        networks = tuple(ipaddress.ip_network(network) for network in settings.webhook_networks)
        return cls(http=settings.webhook_http, networks=networks)


class RefusedAddressError(OptionError):
    """An address that webhooks are not sent to."""

    code = "webhook_refused"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A checked URL.

    Parameters
    ----------
    scheme, host, port
        Of the URL.
    path
        With the query.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host, and port if it is not the scheme's own, as the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def check_url(url: str, rules: WebhookRules) -> Target:
    """Check what can be told from a URL without resolving its name.

    Raises
    ------
    RefusedAddressError
        It is no URL that webhooks are sent to.
    """
    if not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        raise RefusedAddressError("the webhook URL has characters that no URL has", "encode them")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise RefusedAddressError("the webhook URL cannot be read", _LIKE) from error
    if parts.scheme not in ("https", *(("http",) if rules.http else ())):
        raise RefusedAddressError(
            "webhooks are sent by https" if not rules.http else "webhooks are sent by https or http",
            _LIKE,
        )
    if not parts.hostname or parts.username is not None or parts.password is not None:
        raise RefusedAddressError("the webhook URL has no host, or a password", _LIKE)
    target = Target(
        scheme=parts.scheme,
        host=parts.hostname,
        port=port if port is not None else _PORTS[parts.scheme],
        path=_path(parts),
    )
    literal = _literal(target.host)
    if literal is not None:
        _refuse_private([literal], target.host, rules)
    return target


def check_wish(url: str | None, settings: "Settings") -> None:
    """Refuse a job whose webhook could not be sent.

    Raises
    ------
    RefusedAddressError
        The URL is not one that webhooks are sent to, or this service sends none.
    """
    if url is None:
        return
    if settings.webhook_secret is None:
        raise RefusedAddressError("this service sends no webhooks", "leave webhook_url out, follow the job")
    check_url(url, WebhookRules.from_settings(settings))


def resolve(target: Target, rules: WebhookRules, lookup: Resolve | None = None) -> tuple[str, ...]:
    """Resolve a target's name and check every address; returns the addresses.

    Parameters
    ----------
    target
        Where to.
    rules
        What is allowed.
    lookup
        Resolves names; None for the system's resolver.

    Raises
    ------
    RefusedAddressError
        One of the addresses is not public.
    OSError
        The name does not resolve.
    """
    found = tuple((lookup or system_lookup)(target.host, target.port))
    if not found:
        raise OSError(f"{target.host} has no address")
    _refuse_private([ipaddress.ip_address(text.partition("%")[0]) for text in found], target.host, rules)
    return found


def system_lookup(host: str, port: int) -> tuple[str, ...]:
    """Resolve a name by the system's resolver."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(answer[4][0]) for answer in answers))


def is_public(address: Address) -> bool:
    """Whether an address, and any IPv4 address that it wraps, is reachable by everybody."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _inner(address)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _COMPATIBLE or any(address in network for network in _NAT64):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _refuse_private(addresses: Iterable[Address], host: str, rules: WebhookRules) -> None:
    for address in addresses:
        allowed = any(address in network for network in rules.networks if network.version == address.version)
        if not (allowed or is_public(address)):
            raise RefusedAddressError(
                f"{host} is not a public address, and webhooks are not sent there",
                "name a public host; the operator can allow networks by webhook_networks",
            )


def _literal(host: str) -> Address | None:
    """Return the address that a host is, also in the spellings that resolvers take (octal, one number)."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host)) if not any(map(str.isalpha, host)) else None
    except OSError:
        return None


def _path(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
