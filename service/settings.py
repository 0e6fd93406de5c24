"""Settings of the service: options of the command, then `STEMWRIGHT_*` variables, then a TOML file.

Built once at the edge (`load_settings`) and handed down. A name that nobody knows is an error, whether in the
file or in the environment: a misspelt limit must not silently be the default.
"""

import difflib
import ipaddress
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from stemwright.core.errors import OptionError

PREFIX = "STEMWRIGHT_"
CONFIG_VARIABLE = "STEMWRIGHT_CONFIG"
# Of the same prefix, and read elsewhere: by the command line, the compose file, the client and the suite.
OTHER_VARIABLES = frozenset(
    PREFIX + name
    for name in (
        "ACCEPT_LICENCE", "API_KEY", "AUDIO", "CI", "CONFIG", "GID", "MIRROR", "OFFLINE", "PUBLISHED_PORT",
        "SEPARATED", "SERVER", "UID",
    )
)  # fmt: skip
OTHER_PREFIXES = ("STEMWRIGHT_TEST_",)
MASK = "********"

_GIB = 1 << 30
_SECRET_WORDS = ("key", "secret", "token", "password", "credential")


def _split(value: Any) -> Any:
    """Take `a,b` for a list; anything else as it is."""
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseSettings):
    """All settings of API, worker and supervisor.

    Each field is the variable `STEMWRIGHT_<FIELD>` and the key `<field>` of the file; lists are written
    `a,b` in a variable, tables as JSON.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, env_ignore_empty=True)

    # Where things are
    data_dir: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("stemwright") / "service",
        description="Folder of the default database and the default storage.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="Database: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`."
        " Default: `service.sqlite` in `data_dir`.",
    )
    storage_url: str | None = Field(
        default=None,
        description="Where uploads and results lie: a folder or `s3://BUCKET/PREFIX`."
        " Default: `storage` in `data_dir`.",
    )
    storage_options: dict[str, Any] = Field(
        default_factory=dict,
        repr=False,
        description="Options of the storage, as its fsspec class takes them.",
    )
    models: Path | None = Field(
        default=None,
        description="Folder of the installed models. Default: what `stemwright models path` shows.",
    )

    # The listener
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on. Anything but loopback needs API keys.",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="Port; 0 takes a free one.")
    root_path: str = Field(default="", description="Path below which a proxy serves the API.")
    trusted_proxies: Names = Field(
        default=(), description="Addresses whose X-Forwarded headers are believed; `*` for all."
    )
    allowed_hosts: Names = Field(
        default=(),
        description="Host names that requests may carry. Default: on loopback its own names, else any.",
    )
    cors_origins: Names = Field(
        default=(), description="Web origins that may call the API from a browser. Default: none."
    )
    ui: bool = Field(default=True, description="Whether the page is served.")
    require_keys: bool | None = Field(
        default=None,
        description="Whether API keys are required. Default: when listening on anything but loopback;"
        " there `false` is refused.",
    )
    session_ttl_s: Seconds = Field(default=12 * 3600, description="How long a browser's login lasts.")

    # Work
    default_model: str = Field(default="htdemucs", min_length=1, description="Model of jobs that name none.")
    device: str = Field(
        default="auto",
        min_length=1,
        description="Device of the worker that `serve` starts, as of `separate`.",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        default="auto", description="Precision of the networks, as of `separate`."
    )
    queues: Names = Field(default=("default",), description="Queues that the worker takes jobs from.")
    queue_of_model: dict[str, str] = Field(
        default_factory=dict,
        description="Queue of the jobs of a model, by its name. Default: `default` for all.",
    )
    warm_models: Count = Field(
        default=2, description="Models that a worker keeps open between jobs, memory permitting."
    )
    poll_s: Seconds = Field(default=0.2, description="Time between a worker's looks at its queue.")
    heartbeat_s: Seconds = Field(default=3.0, description="Time between a worker's signs of life.")
    dead_after_s: Seconds = Field(
        default=15.0, description="Silence after which a worker counts as dead and its job is taken over."
    )
    max_attempts: Count = Field(
        default=3, description="Workers that a job may lose before it fails with that reason."
    )
    grace_s: float = Field(
        default=10.0,
        ge=0,
        description="Time that running work is given at SIGTERM; a job not done by then is handed back.",
    )

    # Limits
    max_upload_bytes: Count = Field(default=4 * _GIB, description="Largest upload, counted as it comes in.")
    max_audio_s: Seconds = Field(default=6 * 3600.0, description="Longest recording.")
    max_queued_per_key: Count = Field(default=100, description="Unfinished jobs that a key may have.")
    max_audio_minutes_per_key: Seconds | None = Field(
        default=None,
        description="Minutes of audio in unfinished jobs that a key may have. Default: no limit.",
    )
    max_queued: Count = Field(
        default=100_000, description="Unfinished jobs of all keys; beyond it the answer is 503."
    )
    wait_limit_s: float = Field(
        default=60.0, ge=0, description="Longest time that `Prefer: wait` makes `POST /v1/separate` wait."
    )
    min_free_bytes: int = Field(
        default=_GIB, ge=0, description="Free disk space below which nothing is accepted."
    )
    body_timeout_s: Seconds = Field(
        default=30.0, description="Silence in the middle of a request's body after which it is given up."
    )
    max_connections: Count = Field(default=1000, description="Requests at a time; beyond it 503.")
    max_event_streams: Count = Field(
        default=16, description="Event streams at a time for each key; beyond it 429."
    )

    stream_limit: int = Field(
        default=2,
        ge=0,
        description="Streams of samples (`WS /v1/stream`) at a time, each a process with a model;"
        " 0 for none.",
    )
    stream_timeout_s: Seconds = Field(
        default=20.0,
        description="Time after which a stream is closed whose client sends nothing or does not read.",
    )

    # Keeping
    results_ttl_s: Seconds = Field(default=7 * 86400.0, description="How long finished jobs are kept.")
    uploads_ttl_s: Seconds = Field(default=86400.0, description="How long unused uploads are kept.")
    webhook_secret: SecretStr | None = Field(
        default=None, description="Secret that webhooks are signed with; without one none are sent."
    )
    webhook_http: bool = Field(default=False, description="Whether webhooks may go by plain http.")
    webhook_networks: Names = Field(
        default=(),
        description="Networks, as 10.1.0.0/16, that webhooks may reach though not public.",
    )

    # Logs
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged."
    )
    log_format: Literal["json", "text"] = Field(
        default="json", description="One JSON object a line, or plain text."
    )

    @property
    def database(self) -> str:
        """The database's URL, a password in it included."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir.absolute() / 'service.sqlite'}"

    @property
    def storage(self) -> str:
        """The storage's URL or folder."""
        return self.storage_url if self.storage_url is not None else str(self.data_dir / "storage")

    @property
    def models_dir(self) -> Path:
        """Folder of the installed models."""
        if self.models is not None:
            return self.models.expanduser()
        return platformdirs.user_data_path("stemwright") / "models"

    @property
    def listens_beyond_loopback(self) -> bool:
        """Whether others than this machine can connect."""
        if self.host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return True  # a name: whatever it resolves to, it is not known to be loopback

    @property
    def keys_required(self) -> bool:
        """Whether a request needs an API key or a session."""
        return self.listens_beyond_loopback or bool(self.require_keys)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Rank the sources: what the caller says, the environment, the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Gather the settings.

    Parameters
    ----------
    config
        TOML file; None for the one that STEMWRIGHT_CONFIG names, if any.
    overrides
        Values that rank before all others; those that are None are left to the rest.

    Raises
    ------
    OptionError
        A name that is not known, a value that is not possible, or a file that cannot be read.
    """
    if config is None and (named := os.environ.get(CONFIG_VARIABLE)):
        config = Path(named).expanduser()
    if config is not None and not config.is_file():
        raise OptionError(f"there is no file of settings {config}", "mend --config or STEMWRIGHT_CONFIG")
    refuse_unknown_variables(os.environ)

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    chosen = {name: value for name, value in overrides.items() if value is not None}
    try:
        found = FromFile(**chosen)
    except ValidationError as error:
        raise _option_error(error, config) from None  # its text would repeat values, secrets too
    except ValueError as error:  # TOML or JSON that cannot be read
        raise OptionError(f"settings cannot be read: {error}", f"mend {config or 'the variables'}") from None
    settings = Settings.model_construct(**{name: getattr(found, name) for name in Settings.model_fields})
    _check(settings)
    return settings


def refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    """Raise OptionError for a variable of our prefix that nothing reads."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | OTHER_VARIABLES
    for name in sorted(environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            if name.startswith(OTHER_PREFIXES):
                continue
            raise OptionError(f"the variable {name} is no setting", _nearest(name, known))


def show_settings(settings: Settings) -> str:
    """Return the settings as TOML that can be read back, secrets masked."""
    lines = []
    for name, field in Settings.model_fields.items():
        value = _shown(name, getattr(settings, name))
        lines.append(f"# {field.description}")
        lines.append(f"# {name} =" if value is None else f"{name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _check(settings: Settings) -> None:
    try:
        dialect = make_url(settings.database).get_backend_name()
    except ArgumentError:
        dialect = ""
    if dialect not in ("sqlite", "postgresql"):
        raise OptionError("database_url is no URL of SQLite or PostgreSQL", "write it like sqlite:///FILE")
    for network in settings.webhook_networks:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise OptionError(
                f"webhook_networks has {network}, which is no network", "write it like 10.1.0.0/16"
            ) from None
    if settings.dead_after_s <= 2 * settings.heartbeat_s:
        raise OptionError(
            f"dead_after_s = {settings.dead_after_s:g} leaves no room for a missed heartbeat",
            f"set it above {2 * settings.heartbeat_s:g}, twice heartbeat_s",
        )
    if settings.listens_beyond_loopback and settings.require_keys is False:
        raise OptionError(
            f"require_keys = false on {settings.host} would open the service to everybody",
            "leave require_keys out, or listen on 127.0.0.1",
        )
    if "*" in settings.cors_origins:
        raise OptionError("cors_origins = * would let any web page call the API", "name the origins")


def _option_error(error: ValidationError, config: Path | None) -> OptionError:
    """Tell the first thing that is wrong, by its name and never by its value."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"]) or "settings"
    if first["type"] == "extra_forbidden":
        return OptionError(
            f"{name} is no setting",
            _nearest(name, set(Settings.model_fields)) + f" in {config or 'the call'}",
        )
    message = first["msg"][:1].lower() + first["msg"][1:]
    return OptionError(f"{name}: {message}", f"mend {config or 'the option'} or {PREFIX}{name.upper()}")


def _nearest(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}? Else remove it" if near else "remove it"


def _shown(name: str, value: Any) -> Any:
    """Return a value as it may be shown."""
    if isinstance(value, SecretStr):
        return _without_password(value.get_secret_value()) if name == "database_url" else MASK
    if isinstance(value, dict):
        return {key: MASK if _is_secret(key) else _shown(key, inner) for key, inner in value.items()}
    return value


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET_WORDS)


def _without_password(url: str) -> str:
    shown = make_url(url)
    return shown.set(query={}).render_as_string(hide_password=True) + ("?..." if shown.query else "")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, int | float) else json.dumps(str(value), ensure_ascii=False)
