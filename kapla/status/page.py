"""The page: HTML with all figures in it, which needs nothing from anywhere.

The same figures come again as events, as HTML too, so that there is one place where they are made.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from functools import cache
from html import escape
from typing import Final

from kapla.status.script import SCRIPT
from kapla.status.style import STYLE
from kapla.status.view import Column, Figure, Group, Table, Tone, View

__all__ = ["REFRESH_S", "event_of", "page_html", "page_policy"]

REFRESH_S: Final = 10
"""How often a browser without JavaScript asks again."""

_CLASSES: Final[dict[Tone, str]] = {tone: tone.value for tone in Tone if tone is not Tone.CALM}


def page_html(view: View) -> bytes:
    """The whole page."""
    name = escape(view.name)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>{name}</title>\n<noscript><meta http-equiv="refresh" content="{REFRESH_S}">'
        f"</noscript>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<div id="view">{_inside(view)}</div>\n'
        f'<footer id="live">Shown as of when this page was asked for.</footer>\n'
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
        # Names of files may be no UTF-8.
    ).encode(errors="backslashreplace")


def event_of(view: View) -> bytes:
    """What replaces the figures of the page, as a server-sent event."""
    # JSON has no line ends, which would end the event's data.
    return f"data: {json.dumps(_inside(view))}\n\n".encode()


@cache
def page_policy() -> str:
    """The Content-Security-Policy: its own style and script, and asking where it came from."""
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_hash(STYLE)}'",
            f"script-src '{_hash(SCRIPT)}'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _hash(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _inside(view: View) -> str:
    return "".join(
        (
            f"<header><h1>{escape(view.name)}</h1>",
            f'<p class="state {_CLASSES.get(view.tone, "")}">{escape(view.state)}</p></header>',
            '<div class="groups">',
            *map(_group, view.groups),
            '</div><div class="tables">',
            *map(_table, view.tables),
            "</div>",
            *(f'<p class="note">{escape(note)}</p>' for note in view.notes),
        )
    )


def _group(group: Group) -> str:
    figures = "".join(
        _figure(figure, is_first=place == 0) for place, figure in enumerate(group.figures)
    )
    return f"<section><h2>{escape(group.title)}</h2><dl>{figures}</dl></section>"


def _figure(figure: Figure, *, is_first: bool) -> str:
    classes = " ".join(filter(None, ("first" if is_first else "", _CLASSES.get(figure.tone, ""))))
    note = f" <small>{escape(figure.note)}</small>" if figure.note else ""
    of = f" <small>{escape(figure.of)}</small>" if figure.of else ""
    bar = "" if figure.part is None else _bar(figure.part)
    return (
        f'<div class="{classes}"><dt>{escape(figure.label)}{note}</dt>'
        f"<dd>{escape(figure.text)}{of}</dd>{bar}</div>"
    )


def _bar(part: float) -> str:
    """Widths are attributes: the policy lets nothing have a style of its own."""
    percent = f"{100 * min(1.0, max(0.0, part)):.1f}"
    return (
        f'<svg class="bar" viewBox="0 0 100 5" preserveAspectRatio="none" role="img"'
        f' aria-label="{percent} %"><rect class="rest" width="100" height="5"></rect>'
        f'<rect class="part" width="{percent}" height="5"></rect></svg>'
    )


def _table(table: Table) -> str:
    title = f"<section><h2>{escape(table.title)}</h2>"
    if not table.rows:
        return f'{title}<p class="empty">{escape(table.empty)}</p></section>'
    head = "".join(_cells("th", table.columns, [column.title for column in table.columns]))
    rows = "".join(f"<tr>{''.join(_cells('td', table.columns, row))}</tr>" for row in table.rows)
    return (
        f'{title}<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _cells(tag: str, columns: Sequence[Column], texts: Sequence[str]) -> Iterator[str]:
    for column, text in zip(columns, texts, strict=True):
        rank = f"r{column.rank}" if column.rank else ""
        classes = " ".join(filter(None, ("number" if column.is_number else "", rank)))
        yield f'<{tag} class="{classes}">{escape(text)}</{tag}>'
