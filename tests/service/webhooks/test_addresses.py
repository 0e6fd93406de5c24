"""Webhooks go to public addresses only, however those are spelt or resolved."""

import ipaddress

import pytest

from stemwright.core.errors import OptionError
from stemwright.service.settings import Settings
from stemwright.service.webhooks.addresses import (
    RefusedAddressError,
    WebhookRules,
    check_url,
    check_wish,
    is_public,
    resolve,
)

PUBLIC = WebhookRules()
PLAIN = WebhookRules(http=True)

# RFC 6890 and IANA's special-purpose registries; the metadata services of the large clouds.
NOT_PUBLIC = (
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001:0:53aa:64c:0:0:f5ff:fffe",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "ff02::1",
)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_special_addresses_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    with pytest.raises(RefusedAddressError):
        target = check_url(f"https://{f'[{address}]' if ':' in address else address}/x", PUBLIC)
        resolve(target, PUBLIC, lambda host, port: [host])


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::808:808"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
    target = check_url(f"https://{f'[{address}]' if ':' in address else address}:8443/x?y=1", PUBLIC)
    assert (target.host, target.port, target.path) == (address, 8443, "/x?y=1")


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "0"])
def test_other_spellings_of_loopback_are_refused(host: str) -> None:
    with pytest.raises(RefusedAddressError):
        resolve(check_url(f"https://{host}/", PUBLIC), PUBLIC)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://example.org/",
        "javascript:alert(1)",
        "//example.org/",
        "example.org",
        "",
        "https://",
        "https:///path",
        "https://user:pw@example.org/",
        "https://user@example.org/",
        "https://example.org:99999/",
        "https://example.org:x/",
        "https://exa mple.org/",
        "https://example.org/\r\nX-Header: 1",
        "https://example.org/\x00",
        "https://ex\u00e4mple.org/",
        "https://[::1",
    ],
)
def test_urls_that_are_none_of_ours_are_refused(url: str) -> None:
    with pytest.raises(RefusedAddressError) as caught:
        check_url(url, PUBLIC)
    assert caught.value.remedy


def test_http_needs_the_setting() -> None:
    assert check_url("http://example.org", PLAIN).port == 80
    assert check_url("http://example.org", PLAIN).path == "/"


def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    target = check_url("https://example.org/", PUBLIC)
    with pytest.raises(RefusedAddressError):
        resolve(target, PUBLIC, lambda *_: ["1.1.1.1", "10.0.0.1"])
    with pytest.raises(RefusedAddressError):
        resolve(target, PUBLIC, lambda *_: ["fe80::1%eth0"])
    with pytest.raises(OSError, match="no address"):
        resolve(target, PUBLIC, lambda *_: [])


def test_operator_may_allow_a_network_and_only_that() -> None:
    rules = WebhookRules(networks=(ipaddress.ip_network("10.1.0.0/16"),))
    assert resolve(check_url("https://10.1.2.3/", rules), rules) == ("10.1.2.3",)
    with pytest.raises(RefusedAddressError):
        check_url("https://10.2.2.3/", rules)
    with pytest.raises(RefusedAddressError):
        check_url("https://[::1]/", rules)


def test_jobs_with_a_webhook_need_a_service_that_sends_them() -> None:
    check_wish(None, Settings())
    with pytest.raises(OptionError, match="sends no webhooks"):
        check_wish("https://example.org/", Settings())
    settings = Settings(webhook_secret="s" * 20, webhook_networks=("127.0.0.0/8",))  # type: ignore[arg-type]
    check_wish("https://127.0.0.1/", settings)
    with pytest.raises(RefusedAddressError):
        check_wish("https://192.168.0.1/", settings)
