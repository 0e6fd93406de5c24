"""Signatures of webhooks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemwright.core.errors import InputError, OptionError
from stemwright.service.webhooks.signing import sign, verify


def test_signature_is_that_of_the_published_example() -> None:
    """The example message of Standard Webhooks' documentation."""
    body = b'{"event_type":"ping","data":{"success":true}}'
    headers = sign("whsec_plJ3nmyCDGBKInavdOK15jsl", "msg_loFOjxBNrRLzqYUf", 1731705121, body)
    assert headers == {
        "webhook-id": "msg_loFOjxBNrRLzqYUf",
        "webhook-timestamp": "1731705121",
        "webhook-signature": "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
    }


@given(body=st.binary(max_size=200), secret=st.text("abc", min_size=1), at=st.integers(0, 2**33))
def test_what_was_signed_verifies_and_nothing_else_does(body: bytes, secret: str, at: int) -> None:
    headers = sign(secret, "id", at, body)
    shouted = {name.upper(): value for name, value in headers.items()}
    assert verify(secret, shouted, body, now=at + 299) == "id"
    for changed in (
        {**headers, "webhook-id": "other"},
        {**headers, "webhook-timestamp": str(at + 1)},
        {**headers, "webhook-signature": "v1,AAAA"},
        {**headers, "webhook-signature": "\u00e4"},
        {"webhook-id": "id"},
        {**headers, "webhook-timestamp": "soon"},
    ):
        with pytest.raises(InputError):
            verify(secret, changed, body, now=at)
    with pytest.raises(InputError, match="wrong"):
        verify(secret, headers, body + b" ", now=at)
    with pytest.raises(InputError, match="wrong"):
        verify(secret + "x", headers, body, now=at)


def test_old_messages_are_refused_and_one_of_several_signatures_is_enough() -> None:
    headers = sign("new", "id", 1000, b"{}")
    with pytest.raises(InputError, match="too old"):
        verify("new", headers, b"{}", now=1301)
    with pytest.raises(InputError, match="too old"):
        verify("new", headers, b"{}", now=699)
    rotated = {
        **headers,
        "webhook-signature": f"{sign('old', 'id', 1000, b'{}')['webhook-signature']} "
        + headers["webhook-signature"],
    }
    assert verify("new", rotated, b"{}", now=1000) == "id"


def test_secret_that_is_no_base64_is_told() -> None:
    with pytest.raises(OptionError, match="base64"):
        sign("whsec_%%%", "id", 1, b"")
