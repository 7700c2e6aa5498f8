"""Settings as people and programs are shown them, with where each comes from. Pure.

Of URLs of stores no path is shown: it may be a capability.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kapla.config.load import Loaded
from kapla.config.model import Config
from kapla.config.table import SETTINGS, Setting
from kapla.http.settings import format_place
from kapla.log import redact
from kapla.peer_config import PeerSettings
from kapla.sizes import size_text
from kapla.urls import HttpEndpoint, StoreUrl, format_store_url

__all__ = ["Shown", "shown", "text_of"]

_NONE: Final = "none"
_BYTES: Final = frozenset({"max_size", "min_free", "max_pinned"})
_RATES: Final = frozenset({"max_put_rate", "max_stranger_rate", "scrub_rate"})


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting."""

    key: str
    value: object
    """For programs: what JSON has. Sizes are bytes, rates bytes a second, None is none."""
    text: str
    """For people."""
    origin: str


def shown(loaded: Loaded) -> list[Shown]:
    """All settings, in the order of the table."""
    found = []
    for setting in SETTINGS:
        value = _value(setting.field, loaded.config)
        origin = redact(loaded.origin(setting.field))
        found.append(Shown(setting.key, value, _text(setting.field, value), origin))
    return found


def text_of(setting: Setting, config: Config) -> str:
    """The value of one setting, for people."""
    return _text(setting.field, _value(setting.field, config))


def _value(field: str, config: Config) -> object:
    value = getattr(config, field)
    if field == "http":
        return [redact(format_place(one)) for one in value]
    if field == "admin":
        return None if value is None else redact(format_place(value))
    return _plain(value)


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, StoreUrl):
        return redact(_url(value))
    if isinstance(value, PeerSettings):
        return _peer(value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return redact(str(value))


def _url(url: StoreUrl) -> str:
    """Without the path of a store."""
    endpoint = url.endpoint
    if isinstance(endpoint, HttpEndpoint):
        gateway = "ipfs+" if endpoint.is_gateway else ""
        return gateway + endpoint.origin + ("/…" if url.store_path else "")
    text = format_store_url(StoreUrl(endpoint, (), url.flags))
    head, hash_mark, key = text.partition("#")
    flags = url.flags
    said = [name for name in ("get", "lend", "put", "stat", "admin") if name in (flags.allow or ())]
    if flags.mode is not None:
        said.append(f"mode={flags.mode:04o}")
    if flags.group is not None:
        said.append(f"group={flags.group}")
    if said:
        head += ("&" if "?" in head else "?") + "&".join(said)
    return head + hash_mark + key


def _peer(peer: PeerSettings) -> dict[str, object]:
    facts: dict[str, object] = {
        "url": None if peer.url is None else _plain(peer.url),
        "key": None if peer.key is None or peer.url is not None else str(peer.key),
        "name": peer.name,
        "rights": sorted(peer.rights),
        "max-rate": peer.max_rate,
    }
    return {key: value for key, value in facts.items() if value is not None}


def _text(field: str, value: object) -> str:
    if value is None or value == []:
        return _NONE
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and field in _BYTES | _RATES:
        per = "/s" if field in _RATES else ""
        return f"{value} ({size_text(value)}{per})" if value >= 1024 else f"{value}"
    if isinstance(value, list):
        return _joined(value)
    return str(value)


def _joined(values: Iterable[object]) -> str:
    return " ".join(
        str(one.get("url") or one.get("key")) if isinstance(one, dict) else str(one)
        for one in values
    )
