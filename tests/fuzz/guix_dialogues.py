"""What is done with bytes from whoever guix_glue talks with, and from files that it keeps."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from guix_glue.errors import CompressionError, FetchFailed, InvalidItems, ProtocolError
from guix_glue.fetch.dialogue import (
    Command,
    CommandReader,
    Have,
    Info,
    Substitute,
    format_available,
    format_details,
)
from guix_glue.fetch.http_wire import PipelinedConnection
from guix_glue.fetch.narinfo_cache import format_answer, parse_answer
from guix_glue.fetch.options import parse_options
from guix_glue.kept.directory import CacheDirectory
from guix_glue.kept.records import format_record, parse_record
from guix_glue.local.item_facts import checked_item
from guix_glue.local.item_table import parse_item_table
from guix_glue.local.worker_protocol import Answer, Event, Failure, WorkerClient
from guix_glue.local.worker_requests import (
    PathInfo,
    Request,
    WorkerLimits,
    is_valid_path,
    query_path_from_hash_part,
    query_path_info,
)
from guix_glue.model import StoreItem
from guix_glue.proxy.item_urns import format_urns, parse_urns
from guix_glue.publish.routes import parse_path
from guix_glue.servers.encodings import body_decoder, decode_body, encoding_name
from guix_glue.servers.failures import retry_after_s
from guix_glue.servers.proxies import Proxies
from guix_glue.servers.url import InvalidServer, parse_address, parse_server, redirect_target
from guix_glue.upstream.kept_narinfos import MirrorCache
from tests.fuzz.cutting import as_text, cut, turns

__all__ = [
    "ENTRIES",
    "HASH_PART",
    "commands",
    "encoded_bodies",
    "http_answers",
    "item_table",
    "mirror_record",
    "proxies",
    "proxy_urns",
    "publisher_record",
    "replies",
    "retry_after",
    "server_urls",
    "worker",
]

STORE = "/gnu/store"
HASH_PART = "7xq3qwahlz7ci18sxrm0qhmzqmafag1f"
PATH = f"{STORE}/{HASH_PART}-app-1.2.3"
ENTRIES = frozenset({"app-1.2.3", "depends-0.9"})

_MAX_BODY = 4096
_WORKER_LIMITS = WorkerLimits(message=8192, references=64)
_REQUESTS: tuple[Request[object], ...] = (
    is_valid_path(PATH),
    query_path_info(PATH),
    query_path_from_hash_part(HASH_PART),
)


def commands(data: bytes) -> None:
    """Read the daemon's commands in pieces: the same as at once; and its options."""
    body, pieces = cut(data)
    whole = CommandReader(STORE, 4096).feed(body)
    reader = CommandReader(STORE, 4096)
    assert [command for piece in pieces for command in reader.feed(piece)] == whole
    assert len(whole) == body.count(b"\n")
    for command in whole:
        _check_command(command)
    parse_options(as_text(body))


def _check_command(command: Command) -> None:
    match command:
        case Have(paths) | Info(paths):
            assert format_available(paths).count(b"\n") == len(paths) + 1
        case Substitute(_, destination):
            assert destination.startswith("/")


def replies(data: bytes) -> None:
    """Tell the daemon of an item with any names: as many lines as there should be, or nothing."""
    deriver, *references = as_text(data).split("\n")
    item = StoreItem(PATH, bytes(32), len(data), tuple(references), deriver or None)
    assert format_details([(item, 1)]).count(b"\n") in (1, 6 + len(references))


def kept_narinfo(data: bytes) -> None:
    """Read a file of the cache of narinfos: what is read is what was written."""
    answer = parse_answer(data, 0.0)
    if answer is not None:
        assert format_answer(answer.text, int(answer.left_s)) == data


def http_answers(data: bytes) -> None:
    """Read what an HTTP server says to as many requests as the first byte tells."""
    asked = [f"/{number}.narinfo" for number in range((data[:1] or b"\0")[0] % 5)]
    connection = PipelinedConnection("localhost", max_body=_MAX_BODY)
    for path in asked:
        connection.request(path)
    _, pieces = cut(data[1:])
    answers = [answer for piece in pieces for answer in connection.receive(piece)]
    answers += connection.receive_end()
    left = connection.unanswered
    assert [path for path, _ in answers] == asked[: len(answers)]
    assert left == asked[len(asked) - len(left) :]
    # Only the request whose answer was no HTTP is neither answered nor left.
    assert 0 <= len(asked) - len(answers) - len(left) <= (connection.failure is not None)
    assert not connection.open
    assert all(len(answer.body) <= _MAX_BODY for _, answer in answers)


def encoded_bodies(data: bytes) -> None:
    """Undo what a server has done to a body: the first byte says what it calls that."""
    name = ("gzip", "deflate")[(data[:1] or b"\0")[0] % 2]
    body, pieces = cut(data[1:])
    with suppress(FetchFailed):
        assert len(decode_body(name, body, _MAX_BODY)) <= _MAX_BODY
    decoder = body_decoder(name)
    with suppress(CompressionError):
        for piece in pieces:
            assert all(len(one) <= _MAX_BODY for one in decoder.feed(piece, _MAX_BODY))
        decoder.finish()
    with suppress(FetchFailed):
        body_decoder(encoding_name(data.decode("latin-1")))


def proxies(data: bytes) -> None:
    """Choose a proxy, as an environment of two lines says: the proxy, and `no_proxy`."""
    proxy, _, bypass = as_text(data).partition("\n")
    environ = {"all_proxy": proxy, "no_proxy": bypass}
    for url in ("http://a.example:81", "https://[fe80::1%25eth0]", "http://10.1.2.3"):
        with suppress(InvalidServer):
            Proxies.from_environ(environ).choose(parse_address(url)[0])


def retry_after(data: bytes) -> None:
    """Read how long a server asks to wait."""
    seconds = retry_after_s(data.decode("latin-1"))
    assert seconds is None or seconds >= 0


def server_urls(data: bytes) -> None:
    """Follow a redirection, and a narinfo's URL; ask a server that a user names; serve a path."""
    # Headers are read as Latin-1.
    text = data.decode("latin-1")
    with suppress(InvalidServer):
        redirect_target("http://example.org/a/b.narinfo", text)
    with suppress(InvalidServer):
        server = parse_server("https://example.org/a")
        server.owns(server.locate(text))
    with suppress(InvalidServer):
        parse_server(text)
    parse_path(text)


def worker(data: bytes) -> None:
    """Ask a Guix daemon one thing after the other; the first byte says with what to begin."""
    number = (data[:1] or b"\0")[0]
    client = WorkerClient(_WORKER_LIMITS)
    with suppress(ProtocolError):
        for turn in turns(data[2:]):
            _, pieces = cut(data[1:2] + turn)
            for piece in pieces:
                _check_event(client.receive(piece))
            # It may not be its turn.
            with suppress(RuntimeError):
                client.request(_REQUESTS[number % len(_REQUESTS)])
                number += 1
            client.data_to_send()


def _check_event(event: Event | None) -> None:
    match event:
        case Answer(PathInfo() as info):
            checked_item(
                STORE,
                PATH,
                nar_hash=info.nar_hash,
                nar_size=info.nar_size,
                references=info.references,
                deriver=info.deriver,
            )
        case Failure(message):
            assert len(message) <= _WORKER_LIMITS.message


def item_table(data: bytes) -> None:
    """Read the table of a directory of items."""
    with suppress(InvalidItems):
        table = parse_item_table(data, ENTRIES)
        assert table.facts.keys() | table.wrong <= ENTRIES
        assert not table.facts.keys() & table.wrong
        assert not table.wrong or table.remarks


def publisher_record(data: bytes) -> None:
    """Read a record of the publisher, as it is or with the sum that belongs to it."""
    record = parse_record(_summed(data))
    if record is None:
        return
    assert record.eris is None or isinstance(record.eris.urn, str | None)
    assert record.eris is None or isinstance(record.eris.reason, str | None)
    assert parse_record(format_record(record)) == record


def mirror_record(data: bytes) -> None:
    """Read a record of a mirror out of its cache directory."""
    with TemporaryDirectory() as path:
        directory = CacheDirectory(Path(path))
        try:
            cache = MirrorCache(directory, STORE)
            (directory.path / "upstream" / HASH_PART).write_bytes(_summed(data))
            cache.find(HASH_PART)
        finally:
            directory.close()


def proxy_urns(data: bytes) -> None:
    """Read what a proxy knows of the URNs of an item: what is written again says the same."""
    urns = parse_urns(_summed(data))
    assert parse_urns(format_urns(urns)) == urns
    for capability in urns.good:
        wrong, doubted = urns.with_wrong(capability, 0.0), urns.with_doubted(capability, 0.0)
        assert parse_urns(format_urns(wrong)).is_wrong(capability, 0.0)
        found = parse_urns(format_urns(doubted))
        assert found.is_doubted(capability, 0.0) or urns.is_wrong(capability, 0.0)


def _summed(data: bytes) -> bytes:
    """Behind a first byte that is odd: with its sum, without which nothing else is looked at."""
    if not data or data[0] % 2 == 0:
        return data[1:]
    return hashlib.sha256(data[1:]).hexdigest().encode() + b"\n" + data[1:]
