"""What the daemon says in `_NIX_OPTIONS`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guix_glue.fetch.options import DaemonOptions, parse_options

AS_SEEN = (
    "build-fallback=false\nbuild-use-substitutes=true\nlocale=C.UTF-8\n"
    "print-extended-build-trace=1\nsubstitute-urls=http://a.example  https://b.example\n"
    "terminal-columns=100\nuser-name=root\ndeduplicate=yes"
)


def test_the_options_of_a_client_that_is_root() -> None:
    assert parse_options(AS_SEEN) == DaemonOptions(
        ("http://a.example", "https://b.example"), True, True, 100
    )


def test_nothing_said() -> None:
    assert parse_options("") == DaemonOptions(None, False, False, 80)


def test_no_servers_is_not_the_same_as_none_named() -> None:
    assert parse_options("substitute-urls=").substitute_urls == ()


def test_deduplicate_counts_whatever_its_value() -> None:
    assert parse_options("deduplicate=no").deduplicate


def test_what_an_untrusted_client_may_choose() -> None:
    options = parse_options(
        "untrusted-substitute-urls=http://own.example\nsubstitute-urls=http://a.example\n"
        "untrusted-print-extended-build-trace=1\nprint-extended-build-trace=0\n"
        "untrusted-terminal-columns=40\n"
    )
    assert options == DaemonOptions(("http://own.example",), True, False, 40)


def test_what_an_untrusted_client_may_not_choose() -> None:
    assert not parse_options("untrusted-deduplicate=yes").deduplicate


def test_columns_that_make_no_sense() -> None:
    for text in ("", "-1", "0", "x", "99999999999", "\u0664\u0664"):
        assert parse_options(f"terminal-columns={text}").terminal_columns == 80


def test_so_many_servers_are_asked_and_of_the_others_the_number_is_known() -> None:
    urls = [f"http://{number}.example" for number in range(70)]
    options = parse_options(f"substitute-urls={' '.join(urls)}")
    assert options.substitute_urls == tuple(urls[:64])
    assert options.urls_left_out == 6
    assert options.with_urls("http://a http://b").urls_left_out == 0


@given(st.text())
def test_any_text_is_taken(text: str) -> None:
    parse_options(text)
    urls = parse_options(f"substitute-urls={text}").substitute_urls
    assert urls is not None
    assert len(urls) <= 64
