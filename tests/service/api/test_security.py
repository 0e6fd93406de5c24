"""Who gets in, from where, and what a browser may do."""

import time

import httpx
import pytest

from stemwright.core.errors import OptionError
from stemwright.service.keys import KeyStore
from tests.service.api.site import WAV, Site, open_site, problem

_LOGIN = "/v1/session"
_PROTECTED = [
    ("GET", "/v1/jobs"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs/0"),
    ("DELETE", "/v1/jobs/0"),
    ("POST", "/v1/jobs/0/cancel"),
    ("POST", "/v1/jobs/0/retry"),
    ("GET", "/v1/jobs/0/events"),
    ("GET", "/v1/jobs/0/stems/vocals"),
    ("GET", "/v1/jobs/0/archive.zip"),
    ("GET", "/v1/jobs/0/peaks/vocals"),
    ("GET", "/v1/jobs/0/preview/vocals"),
    ("GET", "/v1/jobs/0/preview/vocals/0"),
    ("POST", "/v1/separate"),
    ("POST", "/v1/detect"),
    ("POST", "/v1/evaluations"),
    ("POST", "/v1/uploads"),
    ("GET", "/v1/uploads/0"),
    ("PATCH", "/v1/uploads/0"),
    ("DELETE", "/v1/uploads/0"),
    ("GET", "/v1/models"),
    ("GET", "/v1/labels?q=dog"),
    ("GET", "/metrics"),
]
_OPEN = {"/health/live", "/health/ready", "/v1/session"}


@pytest.mark.parametrize(("method", "path"), _PROTECTED)
def test_nothing_works_without_a_key(site: Site, method: str, path: str) -> None:
    with site.client("") as nobody:
        headers = {"Upload-Offset": "0"} if method == "PATCH" else {}
        body = {"size": 5} if path == "/v1/uploads" else None
        answer = nobody.request(method, path, headers=headers, json=body)
        problem(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_the_list_above_is_whole(site: Site) -> None:
    document = httpx.get(f"{site.url}/openapi.json").json()
    listed = {(method, path.partition("?")[0].replace("/0", "/{}")) for method, path in _PROTECTED}
    for path, operations in document["paths"].items():
        generic = "/".join("{}" if part.startswith("{") else part for part in path.split("/"))
        for method in operations:
            for media in ("stems", "peaks", "preview"):
                generic = generic.replace(f"{media}/{{}}", f"{media}/vocals")
            assert path in _OPEN or method == "head" or (method.upper(), generic) in listed


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer swk_wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic c3drOg=="},
        {"Authorization": "x" * 5000},
        {"X-API-Key": "swk_wrong"},
        {"Cookie": "stemwright_session=wrong"},
    ],
)
def test_wrong_keys_do_not_open(site: Site, headers: dict[str, str]) -> None:
    answer = httpx.get(f"{site.url}/v1/jobs", headers=headers)
    problem(answer, 401, "unauthenticated")
    assert "wrong" not in answer.text


def test_both_headers_carry_a_key(site: Site) -> None:
    key = site.key()
    for headers in ({"Authorization": f"bearer {key}"}, {"X-API-Key": key}):
        assert httpx.get(f"{site.url}/v1/jobs", headers=headers).status_code == 200


def test_a_revoked_key_opens_nothing_and_its_sessions_end(site: Site) -> None:
    key, token = site.service.keys.create("leaver")
    with site.client(token) as client, site.client("") as browser:
        assert client.get("/v1/jobs").status_code == 200
        assert browser.post(_LOGIN, json={"key": token}).status_code == 201
        assert browser.get("/v1/jobs").status_code == 200
        site.service.keys.revoke(key.id)
        problem(client.get("/v1/jobs"), 401, "unauthenticated")
        problem(browser.get("/v1/jobs"), 401, "unauthenticated")


def test_a_browser_logs_in_works_and_logs_out(site: Site) -> None:
    key = site.key()
    with site.client(key) as program, site.client("") as browser:
        answer = browser.post(_LOGIN, json={"key": key})
        assert answer.status_code == 201
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie
        assert "secure" not in cookie  # plain HTTP on loopback
        assert key not in answer.text + cookie
        token = answer.json()["csrf_token"]
        assert answer.json()["expires"] > time.time()
        assert browser.get(_LOGIN).json()["csrf_token"] == token
        files = {"file": ("song.wav", WAV)}
        problem(browser.post("/v1/jobs", files=files), 403, "bad_csrf_token")
        problem(browser.post("/v1/jobs", files=files, headers={"X-CSRF-Token": "x"}), 403, "bad_csrf_token")
        job = browser.post("/v1/jobs", files=files, headers={"X-CSRF-Token": token})
        assert job.status_code == 202
        assert program.get(f"/v1/jobs/{job.json()['id']}").status_code == 200  # the same owner
        problem(browser.delete(_LOGIN), 403, "bad_csrf_token")
        assert browser.delete(_LOGIN, headers={"X-CSRF-Token": token}).status_code == 204
        problem(browser.get(_LOGIN), 404, "not_found")
        problem(browser.get("/v1/jobs"), 401, "unauthenticated")


def test_a_login_needs_a_valid_key(site: Site) -> None:
    with site.client("") as browser:
        answer = browser.post(_LOGIN, json={"key": "swk_nope"})
        problem(answer, 401, "unauthenticated")
        assert "set-cookie" not in answer.headers
        body = problem(browser.post(_LOGIN, json={"key": ""}), 422, "invalid")
        assert body["errors"][0]["field"] == "key"
        problem(browser.post(_LOGIN, json={"key": "x", "admin": True}), 422, "invalid")


def test_sessions_expire(site: Site) -> None:
    key_id, _ = site.service.keys.create("brief")
    _, secret = site.service.keys.log_in(key_id.id, -1.0)
    assert site.service.keys.session(secret) is None


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost.evil"]
)
def test_pages_of_other_sites_change_nothing(site: Site, client: httpx.Client, origin: str) -> None:
    headers = {"Origin": origin}
    problem(client.post("/v1/jobs", files={"file": ("a", WAV)}, headers=headers), 403, "bad_origin")
    problem(client.delete("/v1/jobs/0", headers=headers), 403, "bad_origin")
    answer = client.get("/v1/jobs", headers=headers)
    assert "access-control-allow-origin" not in answer.headers  # so that the page cannot read it
    preflight = {**headers, "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in client.options("/v1/jobs", headers=preflight).headers


def test_the_own_page_may(site: Site, client: httpx.Client) -> None:
    answer = client.post("/v1/jobs", files={"file": ("a", WAV)}, headers={"Origin": site.url})
    assert answer.status_code == 202


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_on_loopback_other_names_are_refused(site: Site, client: httpx.Client, host: str) -> None:
    """A name that is made to resolve to this machine must not open it to the page behind the name."""
    problem(client.get("/v1/jobs", headers={"Host": host}), 421, "bad_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1:1", "[::1]:8000"])
def test_names_of_this_machine_are_fine(client: httpx.Client, host: str) -> None:
    assert client.get("/v1/jobs", headers={"Host": host}).status_code == 200


def test_origins_that_are_allowed_may_call(site: Site) -> None:
    origin = "https://app.example"
    with open_site(site.folder / "cors", cors_origins=(origin,)) as cors, cors.client() as client:
        preflight = client.options(
            "/v1/jobs",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,idempotency-key",
            },
        )
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in preflight.headers
        answer = client.post("/v1/jobs", files={"file": ("a", WAV)}, headers={"Origin": origin})
        assert answer.status_code == 202
        assert "Location" in answer.headers["access-control-expose-headers"]
        headers = {"Origin": "https://evil.example"}
        problem(client.post("/v1/jobs", files={"file": ("a", WAV)}, headers=headers), 403, "bad_origin")


@pytest.mark.parametrize("path", ["/v1/jobs", "/nothing", "/health/live", "/openapi.json"])
def test_every_answer_carries_security_headers(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


def test_without_required_keys_loopback_is_open_and_keys_still_separate(site: Site) -> None:
    with open_site(site.folder / "open", require_keys=None) as opened:
        with opened.client("") as nobody, opened.client() as somebody:
            job = nobody.post("/v1/jobs", files={"file": ("song.wav", WAV)})
            assert job.status_code == 202
            problem(somebody.get(job.headers["location"]), 404, "not_found")
            assert nobody.get("/v1/jobs").json()["items"][0]["id"] == job.json()["id"]
            problem(nobody.get("/v1/jobs", headers={"Authorization": "Bearer x"}), 401, "unauthenticated")


def test_only_hashes_of_secrets_are_stored(site: Site) -> None:
    key, token = site.service.keys.create("hashed")
    _, secret = site.service.keys.log_in(key.id, 100.0)
    stored = b"".join(path.read_bytes() for path in (site.folder / "data").glob("service.sqlite*"))
    assert token.encode() not in stored
    assert secret.encode() not in stored


def test_keys_are_named_listed_and_revoked_once(site: Site) -> None:
    keys: KeyStore = site.service.keys
    for name in ("", "   ", "x" * 201, "a\nb"):
        with pytest.raises(OptionError):
            keys.create(name)
    first, _ = keys.create("twin")
    second, _ = keys.create("twin")
    with pytest.raises(OptionError, match="2 keys"):
        keys.revoke("twin")
    assert keys.revoke(first.id).id == first.id
    assert keys.revoke("twin").id == second.id
    from stemwright.service.errors import NotFoundError

    with pytest.raises(NotFoundError):
        keys.revoke("twin")
    listed = {key.id: key for key in keys.list()}
    assert listed[first.id].revoked_at is not None
