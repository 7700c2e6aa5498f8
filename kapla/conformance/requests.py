"""Methods, options and paths as RFC 7252 has them."""

from __future__ import annotations

from typing import Final

from eris.base32 import format_base32_reference
from eris.crypto import reference_of
from kapla.coap.frame import Code, Message, Option, OptionNumber
from kapla.conformance.expecting import describe, expect, expect_block, expect_error
from kapla.conformance.model import Absent, Check, Failed, Level
from kapla.conformance.stage import Stage

__all__ = ["CHECKS"]

_LAST_METHOD: Final = 0x1F
# Not given to anybody, in the ranges for experiments and before them.
_CRITICAL: Final = (9, 65001)
_ELECTIVE: Final = (22, 65002)
_OBSERVE: Final = 6
_CORE: Final[list[Option]] = [(11, b".well-known"), (11, b"core")]
_OCTET_STREAM, _JSON = b"\x2a", b"\x32"


async def _get(stage: Stage, *more: Option) -> tuple[Message, bytes]:
    """Ask for a block that is there, with more options; returns the answer, and the block."""
    block = stage.known()
    wire = await stage.connect()
    query = (int(OptionNumber.URI_QUERY), format_base32_reference(reference_of(block)))
    options = sorted([*stage.path, query, *more], key=lambda option: option[0])
    return await stage.ask(wire, Code.GET, options), block


async def _method(stage: Stage) -> str:
    wire = await stage.connect()
    return expect(await stage.ask(wire, _LAST_METHOD, stage.path), Code.METHOD_NOT_ALLOWED)


async def _post(stage: Stage) -> str:
    wire = await stage.connect()
    for code in (Code.POST, Code.DELETE):
        told = expect(await stage.ask(wire, code, stage.path), Code.METHOD_NOT_ALLOWED)
    return told


async def _critical(stage: Stage) -> str:
    for number in _CRITICAL:
        answer, _ = await _get(stage, (number, b"what"))
        told = expect(answer, Code.BAD_OPTION)
    return told


async def _elective(stage: Stage) -> str:
    for number in _ELECTIVE:
        answer, block = await _get(stage, (number, b"what"))
        expect_block(answer, block)
    return "passed over"


async def _observe(stage: Stage) -> str:
    answer, block = await _get(stage, (_OBSERVE, b""))
    expect_block(answer, block)
    return "observed" if answer.values(_OBSERVE) else "not observed"


async def _etag(stage: Stage) -> str:
    answer, block = await _get(stage, (int(OptionNumber.ETAG), b"12345678"))
    return expect_block(answer, block)


async def _host(stage: Stage) -> str:
    host: Option = (int(OptionNumber.URI_HOST), b"blocks.example")
    port: Option = (int(OptionNumber.URI_PORT), b"\x16\x33")
    answer, block = await _get(stage, host, port)
    return expect_block(answer, block)


async def _proxy(stage: Stage) -> str:
    answer, _ = await _get(stage, (int(OptionNumber.PROXY_URI), b"coap://blocks.example/"))
    return expect(answer, Code.PROXYING_NOT_SUPPORTED)


async def _accept(stage: Stage) -> str:
    answer, block = await _get(stage, (int(OptionNumber.ACCEPT), _OCTET_STREAM))
    return expect_block(answer, block)


async def _not_acceptable(stage: Stage) -> str:
    answer, _ = await _get(stage, (int(OptionNumber.ACCEPT), _JSON))
    return expect(answer, Code.NOT_ACCEPTABLE)


async def _repeated(stage: Stage) -> str:
    accept: Option = (int(OptionNumber.ACCEPT), _OCTET_STREAM)
    answer, _ = await _get(stage, accept, accept)
    return expect(answer, Code.BAD_OPTION)


async def _impossible(stage: Stage) -> str:
    answer, _ = await _get(stage, (int(OptionNumber.ACCEPT), b"\0\0\x2a"))
    return expect(answer, Code.BAD_OPTION)


async def _format(stage: Stage) -> str:
    block = stage.fresh(1024)
    wire = await stage.connect()
    answer = await stage.put(wire, block, [(int(OptionNumber.CONTENT_FORMAT), _OCTET_STREAM)])
    expect(answer, Code.CREATED)
    query = format_base32_reference(reference_of(block))
    return expect_block(await stage.get(wire, query), block)


async def _conditional(stage: Stage) -> str:
    wire = await stage.connect()
    block = stage.fresh(1024)
    options = sorted([*stage.path, (int(OptionNumber.IF_NONE_MATCH), b"")])
    answer = await stage.ask(wire, Code.PUT, options, block)
    told = expect_error(answer)
    query = format_base32_reference(reference_of(block))
    if (await stage.get(wire, query)).code == Code.CONTENT:
        raise Failed(f"answered {told}, and stored")
    return told


async def _nowhere(stage: Stage) -> str:
    wire = await stage.connect()
    path: list[Option] = [(11, b"no"), (11, b"such"), (11, b"place")]
    expect(await stage.ask(wire, Code.GET, path), Code.NOT_FOUND)
    return expect(await stage.ask(wire, Code.GET, []), Code.NOT_FOUND)


async def _strange_path(stage: Stage) -> str:
    wire = await stage.connect()
    told = expect_error(await stage.ask(wire, Code.GET, [(11, b"\xff\xfe"), (11, b"")]))
    expect(await stage.get(wire, b"A" * 52), Code.NOT_FOUND)
    return told


async def _core(stage: Stage) -> str:
    wire = await stage.connect()
    answer = await stage.ask(wire, Code.GET, _CORE)
    expect(answer, Code.CONTENT)
    if b"blocks>" not in answer.payload:
        raise Failed("it does not tell of the blocks")
    return describe(answer)


async def _root(stage: Stage) -> str:
    block = stage.known()
    wire = await stage.connect()
    query = (int(OptionNumber.URI_QUERY), format_base32_reference(reference_of(block)))
    answer = await stage.ask(wire, Code.GET, [(11, b"blocks"), query])
    if answer.code == Code.NOT_FOUND:
        raise Absent("answered 4.04")
    return expect_block(answer, block)


_MUST, _SHOULD, _MAY = Level.MUST, Level.SHOULD, Level.MAY
CHECKS: Final = (
    Check("method", _MUST, "an unknown method is 4.05", "RFC 7252, 5.8", _method),
    Check("post", _MUST, "POST and DELETE of blocks are 4.05", "RFC 7252, 5.8", _post),
    Check("critical", _MUST, "an unknown critical option is 4.02", "RFC 7252, 5.4.1", _critical),
    Check(
        "elective", _MUST, "an unknown elective option is passed over", "RFC 7252, 5.4.1", _elective
    ),
    Check("observe", _MUST, "Observe does no harm", "RFC 7641, 4.1", _observe),
    Check("etag", _MUST, "an ETag that fits nothing does no harm", "RFC 7252, 5.10.6", _etag),
    Check("host", _MUST, "Uri-Host and Uri-Port are understood", "RFC 7252, 5.10.1", _host),
    Check("proxy", _MUST, "Proxy-Uri is 5.05, if it is no proxy", "RFC 7252, 5.10.2", _proxy),
    Check("accept", _MUST, "a block is given as octet-stream", "RFC 7252, 5.10.4", _accept),
    Check("not-acceptable", _MUST, "a block as JSON is 4.06", "RFC 7252, 5.10.4", _not_acceptable),
    Check("repeated", _MUST, "Accept twice is 4.02", "RFC 7252, 5.4.5", _repeated),
    Check("impossible", _MUST, "Accept of three bytes is 4.02", "RFC 7252, 5.4.3", _impossible),
    Check("format", _MUST, "a PUT may have a Content-Format", "RFC 7252, 5.10.3", _format, True),
    Check(
        "conditional",
        _MUST,
        "If-None-Match is not passed over",
        "RFC 7252, 5.10.8",
        _conditional,
        True,
    ),
    Check("nowhere", _MUST, "other paths are 4.04", "RFC 7252, 5.9.2.5", _nowhere),
    Check(
        "strange-path",
        _MUST,
        "a path that is not UTF-8 does no harm",
        "RFC 7252, 11.1",
        _strange_path,
    ),
    Check("core", _SHOULD, "/.well-known/core tells of the blocks", "RFC 7252, 7.2", _core),
    Check("root", _MAY, "/blocks is the same store", "as python-eris asks", _root),
)
