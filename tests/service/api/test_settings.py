"""Settings: ranks of their sources, unknown names, values that are not possible, masks."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import SecretStr

from stemwright.core.errors import OptionError
from stemwright.service.settings import MASK, PREFIX, Settings, load_settings, show_settings
from tests.support.paths import ROOT

# Where the compose file, the client and the suite read our prefix; settings.py lists them.
_READ_IN = ("core", "models", "service", "tests", "docker-compose.yml", "Dockerfile")


@pytest.fixture(autouse=True)
def bare(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from the defaults."""


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "stemwright.toml"
    path.write_text(text)
    return path


def test_options_then_variables_then_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _file(tmp_path, 'port = 1\nhost = "::1"\nqueues = ["a", "b"]\ngrace_s = 3')
    assert load_settings(path).port == 1
    monkeypatch.setenv("STEMWRIGHT_PORT", "2")
    assert load_settings(path).port == 2
    assert load_settings(path, port=3).port == 3
    assert load_settings(path, port=None).port == 2
    settings = load_settings(path)
    assert (settings.host, settings.queues, settings.grace_s) == ("::1", ("a", "b"), 3.0)
    monkeypatch.setenv("STEMWRIGHT_CONFIG", str(path))
    assert load_settings().queues == ("a", "b")


def test_lists_tables_and_booleans_of_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMWRIGHT_QUEUES", "gpu, cpu")
    monkeypatch.setenv("STEMWRIGHT_STORAGE_OPTIONS", '{"key": "abc", "anon": false}')
    monkeypatch.setenv("STEMWRIGHT_UI", "false")
    settings = load_settings()
    assert settings.queues == ("gpu", "cpu")
    assert settings.storage_options == {"key": "abc", "anon": False}
    assert settings.ui is False


def test_a_misspelt_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMWRIGHT_MAX_UPLOADBYTES", "5")
    with pytest.raises(OptionError, match="STEMWRIGHT_MAX_UPLOADBYTES") as caught:
        load_settings()
    assert "STEMWRIGHT_MAX_UPLOAD_BYTES" in caught.value.remedy


def test_variables_that_others_read_are_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    import re

    found: set[str] = set()
    for place in _READ_IN:
        root = ROOT / place
        for path in [root] if root.is_file() else root.rglob("*.py"):
            if "settings" not in path.name:
                found |= set(re.findall(r'["${]STEMWRIGHT_[A-Z_]+(?=[":}])', path.read_text()))
    names = {name.lstrip('"${') for name in found if not name.endswith("_")}
    assert {"STEMWRIGHT_MIRROR", "STEMWRIGHT_CI", "STEMWRIGHT_UID"} <= names
    fields = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in names - fields - {"STEMWRIGHT_CONFIG"}:
        monkeypatch.setenv(name, "x")
    load_settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "prot is no setting"),
        ('port = "x"', "port"),
        ("port = 70000", "port"),
        ("max_upload_bytes = 0", "max_upload_bytes"),
        ("grace_s = -1", "grace_s"),
        ("grace_s = nan", "grace_s"),
        ('database_url = "mysql://x/y"', "database_url"),
        ('database_url = "nonsense"', "database_url"),
        ("heartbeat_s = 10.0", "dead_after_s"),
        ('host = "0.0.0.0"\nrequire_keys = false', "require_keys"),
        ('cors_origins = ["*"]', "cors_origins"),
        ("port = ", "cannot be read"),
    ],
)
def test_what_is_not_possible_is_an_error_with_its_name(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        load_settings(_file(tmp_path, text))
    assert caught.value.remedy


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no file of settings"):
        load_settings(tmp_path / "none.toml")


def test_errors_never_repeat_a_secret(tmp_path: Path) -> None:
    with pytest.raises(OptionError) as caught:
        load_settings(_file(tmp_path, 'database_url = "hunter2 hunter2"\n'))
    assert "hunter2" not in str(caught.value) + caught.value.remedy


def test_what_is_shown_can_be_read_back_with_secrets_masked(tmp_path: Path) -> None:
    settings = load_settings(
        port=123,
        database_url="postgresql://me:hunter2@db/x",
        storage_options={"key": "hunter2", "client_kwargs": {"endpoint_url": "http://s3"}},
        webhook_secret="hunter2hunter2hunter2",
        queues=("a", "b"),
    )
    text = show_settings(settings)
    assert "hunter2" not in text and "hunter2" not in repr(settings)
    shown = tomllib.loads(text)
    assert shown["port"] == 123
    assert shown["webhook_secret"] == MASK
    assert shown["storage_options"]["client_kwargs"] == {"endpoint_url": "http://s3"}
    assert "me:***@db" in shown["database_url"]
    again = load_settings(_file(tmp_path, text))
    for name in Settings.model_fields:
        value = getattr(again, name)
        if not isinstance(value, SecretStr) and name != "storage_options":
            assert value == getattr(settings, name), name


@pytest.mark.parametrize(
    ("host", "beyond"),
    [
        ("127.0.0.1", False),
        ("127.9.9.9", False),
        ("::1", False),
        ("[::1]", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("::", True),
        ("192.168.1.5", True),
        ("myhost", True),
        ("localhost.evil.example", True),
    ],
)
def test_keys_are_required_beyond_loopback(host: str, beyond: bool) -> None:
    settings = load_settings(host=host)
    assert settings.listens_beyond_loopback is beyond
    assert settings.keys_required is beyond
    assert load_settings(host=host, require_keys=True).keys_required


def test_the_documentation_lists_every_setting() -> None:
    text = (ROOT / "docs" / "service.md").read_text()
    script = [sys.executable, str(ROOT / "scripts" / "make_settings_table.py"), "--check"]
    checked = subprocess.run(script, env={"PYTHONPATH": str(ROOT / ".dev")}, timeout=60)
    assert checked.returncode == 0, "run scripts/make_settings_table.py"
    for name, field in Settings.model_fields.items():
        assert f"| `{name}` | " in text, name
        assert field.description and field.description in text, name
