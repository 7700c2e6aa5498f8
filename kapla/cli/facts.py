"""Facts of a daemon as JSON, for other programs."""

from __future__ import annotations

import json
from typing import Any

from kapla.cli.common import CommandError, ExitCode

__all__ = ["facts_json"]


def facts_json(facts: dict[str, Any], what: str) -> str:
    """JSON as others read it: numbers are finite, and nothing in it commands a terminal.

    Raises: CommandError, which says of `what` it is.
    """
    try:
        # Python escapes all that is not printable but DEL, which only a string can hold.
        return json.dumps(facts, allow_nan=False).replace("\x7f", "\\u007f")
    except ValueError:
        raise CommandError(
            f"the store's {what} has numbers that JSON does not know", ExitCode.STORE
        ) from None
