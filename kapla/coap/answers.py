"""The answers of the fast lane: a list of results as a list of messages."""

from __future__ import annotations

from collections.abc import Sequence

from eris.errors import ErisError
from kapla.coap.beyond import Found
from kapla.coap.blocks import code_of_error, diagnostic
from kapla.coap.fast_lane import answer_block, answer_empty, answer_lent_block
from kapla.coap.frame import Code, format_message

__all__ = ["answer_to_get", "answers_to_gets", "answers_to_puts"]


def answers_to_gets(
    tokens: Sequence[bytes],
    result: Sequence[bytes | None] | ErisError,
    are_lent: Sequence[bool] = (),
) -> list[bytes]:
    """The blocks, 4.04 for each that is not there, or one error for all.

    `are_lent`: for a peer that wants to know which of them may be given on.
    """
    if isinstance(result, ErisError):
        return _refusals(tokens, result)
    if are_lent:
        return [
            _answer(token, block, is_lent)
            for token, block, is_lent in zip(tokens, result, are_lent, strict=True)
        ]
    return [
        answer_empty(Code.NOT_FOUND, token) if block is None else answer_block(token, block)
        for token, block in zip(tokens, result, strict=True)
    ]


def answer_to_get(token: bytes, result: Found | ErisError, *, is_marked: bool) -> bytes:
    """A block that somebody else had, or why there is none; `is_marked`: as above."""
    if isinstance(result, ErisError):
        return _refusal(token, result)
    return _answer(token, result.block, is_marked and result.is_lent)


def answers_to_puts(
    tokens: Sequence[bytes], result: Sequence[ErisError | None] | ErisError | None
) -> list[bytes]:
    """2.01 for each block that is kept, and the error of each that is not."""
    if isinstance(result, ErisError):
        return _refusals(tokens, result)
    created = Code.CREATED
    errors = result or [None] * len(tokens)
    return [
        answer_empty(created, token) if error is None else _refusal(token, error)
        for token, error in zip(tokens, errors, strict=True)
    ]


def _answer(token: bytes, block: bytes | None, is_lent: bool) -> bytes:
    if block is None:
        return answer_empty(Code.NOT_FOUND, token)
    return (answer_lent_block if is_lent else answer_block)(token, block)


def _refusals(tokens: Sequence[bytes], error: ErisError) -> list[bytes]:
    return [_refusal(token, error) for token in tokens]


def _refusal(token: bytes, error: ErisError) -> bytes:
    return format_message(code_of_error(error), token, payload=diagnostic(error))
