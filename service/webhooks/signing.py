"""Signatures of webhooks, and checking them.

References
----------
Standard Webhooks, specification 1.0.0: headers `webhook-id`, `webhook-timestamp`, `webhook-signature`;
signed is `ID.TIMESTAMP.BODY` by HMAC-SHA256.
"""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping

from stemwright.core.errors import InputError, OptionError

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
TOLERANCE_S = 300.0
_PREFIX = "whsec_"


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a signed message.

    Parameters
    ----------
    secret
        `whsec_` and the key in base64, or any text, whose UTF-8 is the key.
    message_id
        The same for every attempt to deliver the message.
    timestamp
        Of this attempt, seconds since 1970.
    body
        What is sent.
    """
    return {
        ID: message_id,
        TIMESTAMP: str(timestamp),
        SIGNATURE: _signature(secret, message_id, timestamp, body),
    }


def verify(
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float | None = None,
    tolerance_s: float = TOLERANCE_S,
) -> str:
    """Check a message that came in; return its id, by which a repeated delivery is known.

    Parameters
    ----------
    secret
        As for `sign`.
    headers
        Of the request; names in any case.
    body
        As it came, byte for byte.
    now
        Seconds since 1970; None for the clock's.
    tolerance_s
        How old, or how far ahead, a message may be.

    Raises
    ------
    InputError
        It is not signed with this secret, or is too old.
    """
    found = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, stamp, signatures = found[ID], int(found[TIMESTAMP]), found[SIGNATURE].split(" ")
    except (KeyError, ValueError) as error:
        raise InputError("the message has no signature", "refuse it") from error
    if abs((time.time() if now is None else now) - stamp) > tolerance_s:
        raise InputError("the message is too old, or of the future", "refuse it; check the clocks")
    expected = _signature(secret, message_id, stamp, body).encode()
    if not any(hmac.compare_digest(expected, given.encode("utf-8", "replace")) for given in signatures):
        raise InputError("the signature is wrong", "refuse it; check the secret")
    return message_id


def _signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(_key(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def _key(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret[len(_PREFIX) :], validate=True)
    except binascii.Error as error:
        raise OptionError("the webhook secret is no base64 after whsec_", "mend webhook_secret") from error
