"""Packets of multicast DNS, written by hand: as others may send them."""

from __future__ import annotations

import socket
import struct

__all__ = ["announcement", "question"]

_PTR, _TXT, _SRV, _A = 12, 16, 33, 1


def question(kind: str) -> bytes:
    """Who is there? Asked as by a program that knows nothing of multicast: it gets the answer."""
    header = struct.pack("!HHHHHH", 7, 0, 1, 0, 0, 0)
    return header + _name(f"{kind}.local") + struct.pack("!HH", _PTR, 1)


def announcement(kind: str, name: str, address: str, port: int, texts: dict[str, str]) -> bytes:
    """All of a service."""
    whole, host = f"{name}.{kind}.local", f"{name}.local"
    records = [
        _record(f"{kind}.local", _PTR, _name(whole)),
        _record(whole, _SRV, struct.pack("!HHH", 0, 0, port) + _name(host)),
        _record(whole, _TXT, b"".join(_counted(f"{k}={v}") for k, v in texts.items())),
        _record(host, _A, socket.inet_aton(address)),
    ]
    return struct.pack("!HHHHHH", 0, 0x8400, 0, len(records), 0, 0) + b"".join(records)


def _record(name: str, kind: int, data: bytes) -> bytes:
    return _name(name) + struct.pack("!HHIH", kind, 1, 120, len(data)) + data


def _name(text: str) -> bytes:
    return b"".join(_counted(label) for label in text.split(".")) + b"\0"


def _counted(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()
