"""What the user sees."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guix_glue.fetch.traces import Messages

ITEM = "/gnu/store/7xq3qwahlz7ci18sxrm0qhmzqmafag1f-app-1.2.3"


def written(extended: bool) -> tuple[list[bytes], Messages]:
    lines: list[bytes] = []
    return lines, Messages(lines.append, extended=extended, columns=60)


def test_a_download_as_the_clients_display_reads_it() -> None:
    lines, messages = written(extended=True)
    transfer = messages.transfer(ITEM, "http://h/nar", None)
    transfer.reach(1)
    transfer.succeed(10)
    # One write a line.
    assert lines == [
        f"@ download-started {ITEM} http://h/nar -\n".encode(),
        f"@ download-progress {ITEM} http://h/nar - 10\n".encode(),
        f"@ download-succeeded {ITEM} http://h/nar 10\n".encode(),
        b"\n",
    ]


def test_a_download_in_plain_text_keeps_to_the_width() -> None:
    lines, messages = written(extended=False)
    transfer = messages.transfer(ITEM + "x" * 100, "http://h/nar", 4 << 20)
    transfer.succeed(2 << 20)
    assert lines[0] == b"Downloading http://h/nar...\n"
    assert lines[1].startswith(b"\r\x1b[K7xq3qwahlz7ci18sxrm0qhmzqmafag1f-app")
    assert lines[1].endswith(b"x 2.0 MiB  50%\n")
    assert len(lines[1]) - len(b"\r\x1b[K\n") <= 60


def test_the_beginning_of_a_urn_has_three_dots() -> None:
    lines, messages = written(extended=False)
    messages.transfer(ITEM, "urn:eris:BIAWLWWKNJGD...", None)
    assert lines == [b"Downloading urn:eris:BIAWLWWKNJGD...\n"]


def test_looking_for_substitutes() -> None:
    lines, messages = written(extended=True)
    progress = messages.looking("http://h")
    for done in range(1, 4):
        progress(done, 3)
    assert lines == [
        b"looking for substitutes on 'http://h'...  33.3%\r\x1b[K",
        b"looking for substitutes on 'http://h'... 100.0%\n",
    ]


def test_warnings_and_errors() -> None:
    lines, messages = written(extended=True)
    messages.warn("a\nb\x1b[K")
    messages.error("c")
    assert lines == [
        b"kapla substitute: warning: a\\nb\\x1b[K\n",
        b"kapla substitute: error: c\n",
    ]


@given(st.text(), st.text(), st.integers(min_value=0, max_value=1 << 62))
def test_no_name_makes_a_line_or_a_word(destination: str, url: str, size: int) -> None:
    for extended in (True, False):
        lines, messages = written(extended)
        messages.warn(url)
        transfer = messages.transfer(destination, url, size)
        transfer.succeed(size)
        for line in lines:
            text = line.removeprefix(b"\r\x1b[K").decode()
            assert text.count("\n") == 1
            assert text.endswith("\n")
            assert text[:-1].isprintable()
            if text.startswith("@ download-progress"):
                assert len(text.split(" ")) == 6
