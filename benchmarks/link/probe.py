"""What a link really does, found out by a program that does nothing else.

`serve ADDRESS PORT` answers on one side. On the other `measure ADDRESS PORT SECONDS` prints the
round trip in milliseconds and the rate in Mbit/s, IP headers included, once it is steady.
Stands alone: it is started by its file name.
"""

from __future__ import annotations

import socket
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Final

_ECHOES: Final = 20
# Until TCP has found its rate.
_WARM_UP_S: Final = 1.5


def _serve(address: str, port: int) -> None:
    with socket.create_server((address, port)) as listener:
        print("ready", flush=True)
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=_answer, args=(peer,), daemon=True).start()


def _answer(peer: socket.socket) -> None:
    with peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(_ECHOES):
            peer.sendall(peer.recv(1))
        try:
            while True:
                peer.sendall(bytes(1 << 16))
        except OSError:
            return


def _measure(address: str, port: int, seconds: float) -> None:
    with socket.create_connection((address, port)) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        trips = []
        for _ in range(_ECHOES):
            begin = time.perf_counter()
            peer.sendall(b"?")
            peer.recv(1)
            trips.append(time.perf_counter() - begin)
        _receive(peer, _WARM_UP_S)
        before, begin = _received(), time.perf_counter()
        _receive(peer, seconds)
        rate = (_received() - before) * 8e-6 / (time.perf_counter() - begin)
    print(f"{statistics.median(trips) * 1000:.3f} {rate:.3f}")


def _receive(peer: socket.socket, seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        peer.recv(1 << 18)


def _received() -> int:
    """Bytes that came over the one device of this namespace that is not its loopback."""
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    return sum(int(line.split(":")[1].split()[0]) for line in lines if "lo:" not in line)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve(sys.argv[2], int(sys.argv[3]))
    else:
        _measure(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
