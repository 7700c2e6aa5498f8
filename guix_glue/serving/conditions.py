"""Requests for a part, or only for what the client does not have yet. Pure.

A reply that has a tag tells it as `ETag`. A request that names it in `If-None-Match` gets 304, and
one for a range gets that range, unless `If-Range` names other bytes than there are: then it gets
all. Whatever can begin anywhere has ranges: files, and what comes from somewhere else. What cannot
be understood, and several ranges at once, are answered with all as well, as HTTP wants or allows.
Source: RFC 9110, sections 13 and 14.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from guix_glue.serving.reply import TEXT_TYPE, FetchedBody, FileBody, Reply, Request

__all__ = ["conditional"]

# Longer numbers are those of no file.
_RANGE: Final = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.IGNORECASE | re.ASCII)
_TAG: Final = re.compile(r'(?:W/)?("[!#-~\x80-\xff]*")')
_LONGEST: Final = 4096


def conditional(request: Request, reply: Reply) -> Reply:
    """The reply to this very request: all, a part of it, or that it is what the client has.

    What `reply` has open is closed, unless it is in what is returned.
    """
    body = reply.body
    if reply.status != 200 or isinstance(body, bytes):
        return reply
    if reply.tag is None or not isinstance(body, FileBody | FetchedBody):
        return _with(reply, ("Accept-Ranges", "none"))
    tag = f'"{reply.tag}"'
    reply = _with(reply, ("ETag", tag), ("Accept-Ranges", "bytes"))
    if _names(request.if_none_match, tag):
        reply.close()
        return replace(reply, status=304, body=b"")
    if request.method != "GET" or request.range is None or request.if_range not in (None, tag):
        return reply
    return _part(reply, body, request.range)


def _part(reply: Reply, body: FileBody | FetchedBody, wanted: str) -> Reply:
    asked = _RANGE.fullmatch(wanted)
    if asked is None or asked.groups() == ("", ""):
        return reply
    first, last = asked.groups()
    if first and last and int(last) < int(first):
        return reply
    start = int(first) if first else max(0, body.size - int(last))
    end = min(int(last) + 1, body.size) if first and last else body.size
    if start >= end:
        return _unsatisfiable(reply, body.size)
    part = replace(body, offset=body.offset + start, size=end - start)
    where = f"bytes {start}-{end - 1}/{body.size}"
    return _with(replace(reply, status=206, body=part), ("Content-Range", where))


def _unsatisfiable(reply: Reply, size: int) -> Reply:
    reply.close()
    headers = (("Accept-Ranges", "bytes"), ("Content-Range", f"bytes */{size}"))
    return Reply(416, TEXT_TYPE, b"There is no such range", headers=headers)


def _names(header: str | None, tag: str) -> bool:
    """Whether `If-None-Match` names a tag; a weak one of the same name will do there."""
    if header is None or len(header) > _LONGEST:
        return False
    return header.strip() == "*" or tag in _TAG.findall(header)


def _with(reply: Reply, *headers: tuple[str, str]) -> Reply:
    return replace(reply, headers=(*reply.headers, *headers))
