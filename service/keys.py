"""API keys and browser sessions: what is stored is a hash, never the secret.

A key has 32 random bytes, so that one SHA-256 is enough: there is nothing to guess for a slow hash to slow
down.
"""

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, delete, insert, or_, select, update

from stemwright.core.errors import OptionError
from stemwright.service.errors import NotFoundError
from stemwright.service.jobs.database import Database
from stemwright.service.jobs.schema import KEYS, SESSIONS

TOKEN_PREFIX = "swk_"
_MAX_NAME = 200
# `used_at` is for people: it is written no more often than this.
_USE_STEP_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Key:
    """An API key as it may be shown."""

    id: str
    name: str
    created_at: float
    used_at: float | None
    revoked_at: float | None


@dataclass(frozen=True, kw_only=True)
class Session:
    """A browser's login.

    Parameters
    ----------
    key_id
        The key that it stands for.
    csrf
        Token that requests which change something must carry.
    expires_at
        Seconds since 1970.
    """

    key_id: str
    csrf: str
    expires_at: float


class KeyStore:
    """Keys and sessions in the database; methods block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str) -> tuple[Key, str]:
        """Make a key; return it and its secret, which is nowhere else.

        Raises
        ------
        OptionError
            The name is empty, too long, or has control characters.
        """
        if not name.strip() or len(name) > _MAX_NAME or not name.isprintable():
            raise OptionError("a key needs a printable name of up to 200 characters", "say whose it is")
        token = TOKEN_PREFIX + secrets.token_urlsafe(32)
        key = Key(
            id=secrets.token_hex(8), name=name.strip(), created_at=time.time(), used_at=None, revoked_at=None
        )
        with self._database.writing() as connection:
            connection.execute(
                insert(KEYS).values(id=key.id, name=key.name, hash=_hash(token), created_at=key.created_at)
            )
        return key, token

    def list(self) -> tuple[Key, ...]:
        """Return all keys, the oldest first, revoked ones too."""
        with self._database.reading() as connection:
            rows = connection.execute(select(KEYS).order_by(KEYS.c.created_at, KEYS.c.id)).mappings()
            return tuple(_key(row) for row in rows)

    def revoke(self, name: str) -> Key:
        """Revoke a key by its id or, where that is one key's only, its name; its sessions end.

        Raises
        ------
        NotFoundError
            There is none, or it was revoked before.
        OptionError
            Several have that name.
        """
        with self._database.writing() as connection:
            rows = connection.execute(
                select(KEYS).where(KEYS.c.revoked_at.is_(None), or_(KEYS.c.id == name, KEYS.c.name == name))
            ).mappings()
            found = [_key(row) for row in rows]
            if not found:
                raise NotFoundError(f"there is no valid key {name!r}", "`stemwright keys list` shows them")
            if len(found) > 1:
                raise OptionError(f"{len(found)} keys are named {name!r}", "use the id instead")
            connection.execute(update(KEYS).where(KEYS.c.id == found[0].id).values(revoked_at=time.time()))
            connection.execute(delete(SESSIONS).where(SESSIONS.c.key_id == found[0].id))
        return found[0]

    def any_valid(self) -> bool:
        """Whether there is a key that opens anything."""
        with self._database.reading() as connection:
            valid = select(KEYS.c.id).where(KEYS.c.revoked_at.is_(None)).limit(1)
            return connection.execute(valid).first() is not None

    def authenticate(self, token: str) -> str | None:
        """Return the id of the key with this secret; None if there is none that is valid."""
        if not token.startswith(TOKEN_PREFIX):
            return None
        with self._database.reading() as connection:
            valid = select(KEYS.c.id, KEYS.c.used_at).where(
                KEYS.c.hash == _hash(token), KEYS.c.revoked_at.is_(None)
            )
            row = connection.execute(valid).first()
        if row is None:
            return None
        now = time.time()
        if row.used_at is None or now - row.used_at > _USE_STEP_S:
            with self._database.writing() as connection:
                connection.execute(update(KEYS).where(KEYS.c.id == row.id).values(used_at=now))
        return str(row.id)

    def log_in(self, key_id: str, ttl_s: float) -> tuple[Session, str]:
        """Begin a session for a key; return it and the secret for its cookie. Expired ones are removed."""
        secret = secrets.token_urlsafe(32)
        now = time.time()
        session = Session(key_id=key_id, csrf=secrets.token_urlsafe(32), expires_at=now + ttl_s)
        with self._database.writing() as connection:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.expires_at < now))
            connection.execute(
                insert(SESSIONS).values(
                    hash=_hash(secret),
                    key_id=key_id,
                    csrf=session.csrf,
                    created_at=now,
                    expires_at=session.expires_at,
                )
            )
        return session, secret

    def session(self, secret: str) -> Session | None:
        """Return the session of a cookie; None if there is none, or it has expired."""
        with self._database.reading() as connection:
            row: Any = connection.execute(
                select(SESSIONS).where(SESSIONS.c.hash == _hash(secret), SESSIONS.c.expires_at > time.time())
            ).first()
        if row is None:
            return None
        return Session(key_id=row.key_id, csrf=row.csrf, expires_at=row.expires_at)

    def log_out(self, secret: str) -> None:
        """End the session of a cookie; none is right too."""
        with self._database.writing() as connection:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.hash == _hash(secret)))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _key(row: RowMapping) -> Key:
    return Key(**{name: row[name] for name in ("id", "name", "created_at", "used_at", "revoked_at")})
