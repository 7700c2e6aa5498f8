"""Where a database server and a database of it are: a URL, as libpq has it. Pure.

    postgresql:///kapla?host=/run/postgresql           by its Unix socket
    postgresql://db.example/kapla                      by TCP, port 5432
    postgresql://kapla@one.example,two.example/kapla   whichever of them answers
    postgresql:///?service=kapla                       what the file of services says

libpq reads the URL, and knows more of it: here is found what can be shown, and what is wrong for
certain. A password may stand in it, and is never shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote

__all__ = ["PASSWORD_ADVICE", "DatabaseUrl", "parse_database_url"]

PASSWORD_ADVICE: Final = (
    "a password stands in the URL, where others may see it: better is a file that $PGPASSFILE"
    " names, or a service file"
)
"""What is said where there is one."""

_SCHEMES: Final = ("postgresql://", "postgres://")
_LONGEST: Final = 4096
_MOST_HOSTS: Final = 16
_EXAMPLE: Final = "postgresql:///kapla?host=/run/postgresql"
# What is wrong is not repeated: it may be the end of a password.
_MISREAD: Final = (
    "host and database make no sense; in a password a slash is written %2F, and an @ %40"
)
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._~%-]*)(?::([0-9]{0,5}))?")
_KEYWORD: Final = re.compile(r"[a-z_]{1,40}")
# What says where the database is: of all else nothing is shown, as it may be a secret.
_SHOWN: Final = ("host", "hostaddr", "port", "dbname", "service")
_SECRET: Final = ("password", "sslpassword", "oauth_client_secret")


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """A database. `str()` and `repr()` tell where it is, and no more."""

    text: str = field(repr=False)
    """All of it, for whoever connects; it may hold a password."""
    shown: str
    """A URL again: hosts and database."""
    where: str = field(repr=False)
    """The same in words: `the database kapla by the Unix socket in /run/postgresql`."""
    has_password: bool = field(repr=False)
    """Whether a password stands in it."""

    def __str__(self) -> str:
        return self.shown


def parse_database_url(text: str) -> DatabaseUrl:
    """Read the URL of a database.

    Raises: ValueError, with the reason, but without what was given.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"the URL of a database is longer than {_LONGEST} characters")
    if any(letter.isspace() or not letter.isprintable() for letter in text):
        raise ValueError("the URL of a database holds white space or a control character")
    scheme = next((one for one in _SCHEMES if text.startswith(one)), None)
    if scheme is None:
        raise ValueError(f"the URL of a database is written as {_EXAMPLE}")
    return _Parts(text.removeprefix(scheme)).url(text)


class _Parts:
    """A URL behind its scheme, in the parts that libpq sees."""

    def __init__(self, rest: str) -> None:
        # As libpq does it: the first @ before any slash ends the user, whatever is before it.
        user, at, behind = rest.partition("@")
        if not at or "/" in user:
            user, behind = "", rest
        place, _, query = behind.partition("?")
        hosts, _, database = place.partition("/")
        self.parameters = _parameters(query)
        self.password = bool(user.partition(":")[2])
        for part in user.partition(":")[::2]:
            _decode(part)
        self.hosts = [_host(one) for one in hosts.split(",")] if hosts else []
        if len(self.hosts) > _MOST_HOSTS:
            raise ValueError(f"{len(self.hosts)} hosts; there may be {_MOST_HOSTS}")
        if "/" in database or "@" in database:
            raise ValueError(_MISREAD)
        self.database = self.parameters.get("dbname") or _readable(database)
        if not self.database and not self.parameters.get("service"):
            raise ValueError(f"the URL names no database; it is written as {_EXAMPLE}")

    def url(self, text: str) -> DatabaseUrl:
        has_password = self.password or any(self.parameters.get(name) for name in _SECRET)
        return DatabaseUrl(text, self._shown(), self._where(), has_password)

    def _shown(self) -> str:
        hosts = ",".join(_quoted(host) + (f":{port}" if port else "") for host, port in self.hosts)
        said = [
            f"{name}={quote(self.parameters[name], safe='/,:')}"
            for name in _SHOWN
            if self.parameters.get(name) and name != "dbname"
        ]
        query = f"?{'&'.join(said)}" if said else ""
        return f"postgresql://{hosts}/{quote(self.database, safe='')}{query}"

    def _where(self) -> str:
        service = self.parameters.get("service")
        what = f"the database {self.database}" if self.database else "the database"
        if service:
            what += f" of the service {service}"
        # As libpq has it: what is in the query counts.
        hosts = self.parameters.get("host") or ",".join(host for host, _ in self.hosts)
        hosts = self.parameters.get("hostaddr") or hosts
        if not hosts:
            return what if service else f"{what} by the server's usual Unix socket"
        ports = [port for _, port in self.hosts if port]
        port = self.parameters.get("port") or ",".join(ports)
        by = [_by(host) for host in hosts.split(",")]
        return f"{what} {' or '.join(by)}{f', port {port}' if port else ''}"


def _by(host: str) -> str:
    if host.startswith(("/", "@")):
        return f"by the Unix socket in {host}"
    return f"on {host}"


def _host(text: str) -> tuple[str, str]:
    """Host and port."""
    found = _HOST.fullmatch(text)
    if found is None or int(found[2] or 0) > 65535:
        raise ValueError(_MISREAD)
    return _readable(found[1]).strip("[]"), found[2] or ""


def _quoted(host: str) -> str:
    return f"[{host}]" if ":" in host else quote(host, safe="")


def _parameters(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in query.split("&") if query else ():
        name, equals, value = item.partition("=")
        if not equals or not _KEYWORD.fullmatch(name) or "=" in value:
            raise ValueError("what follows the ? of a database's URL is name=value, with & between")
        found[name] = _readable(value) if name in _SHOWN else _decode(value)
    return found


def _readable(text: str) -> str:
    decoded = _decode(text)
    if not decoded.isprintable():
        raise ValueError("the URL of a database names what cannot be printed")
    return decoded


def _decode(text: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", text):
        raise ValueError("the URL of a database holds a percent sign that begins no escape")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("the URL of a database is not UTF-8") from None
