"""Where a store is: a path or the URL of a database, and what is shown of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kapla.database_url import DatabaseUrl, parse_database_url
from kapla.store_place import is_url, parse_place

SECRET = "s3cret"


@pytest.mark.parametrize(
    ("text", "shown", "where"),
    [
        (
            "postgresql:///kapla?host=/run/postgresql",
            "postgresql:///kapla?host=/run/postgresql",
            "the database kapla by the Unix socket in /run/postgresql",
        ),
        (
            "postgres://me@db.example:5433/kapla",
            "postgresql://db.example:5433/kapla",
            "the database kapla on db.example, port 5433",
        ),
        (
            "postgresql://%2Frun%2Fpg/kapla",
            "postgresql://%2Frun%2Fpg/kapla",
            "the database kapla by the Unix socket in /run/pg",
        ),
        (
            "postgresql://one:1,two:2/a%20b",
            "postgresql://one:1,two:2/a%20b",
            "the database a b on one or on two, port 1,2",
        ),
        ("postgresql://[::1]/k", "postgresql://[::1]/k", "the database k on ::1"),
        (
            "postgresql:///kapla",
            "postgresql:///kapla",
            "the database kapla by the server's usual Unix socket",
        ),
        (
            "postgresql://?service=attic",
            "postgresql:///?service=attic",
            "the database of the service attic",
        ),
        (
            "postgresql://h?dbname=k&connect_timeout=3",
            "postgresql://h/k",
            "the database k on h",
        ),
    ],
)
def test_a_database(text: str, shown: str, where: str) -> None:
    found = parse_place(text)
    assert isinstance(found, DatabaseUrl)
    assert (str(found), found.where, found.has_password) == (shown, where, False)
    assert found.text == text


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://u:{SECRET}@h/k",
        f"postgresql://:{SECRET}@h/k",
        f"postgresql://u:a?{SECRET}@h/k",
        f"postgresql:///k?password={SECRET}&host=/run",
        f"postgresql:///k?sslkey=/k&sslpassword={SECRET}",
        f"postgresql://u:%40{SECRET}@h:1/k?connect_timeout=3",
    ],
)
def test_a_password_is_not_shown(text: str) -> None:
    found = parse_database_url(text)
    assert found.has_password
    assert SECRET in found.text
    assert SECRET not in f"{found} {found!r} {found.where} {[found]}"


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://u:{SECRET}/{SECRET}@h/k",
        f"postgresql://u:1/{SECRET}@h/k",
        f"postgresql://u:p@{SECRET}@h/k",
        f"postgresql://u:{SECRET}%zz@h/k",
        f"postgresql://u:{SECRET}%00@h/k",
        f"postgresql://u:{SECRET}@h/",
        f"postgresql://u:{SECRET}@h:99999/k",
        f"postgresql://u:{SECRET}@h/k?{SECRET}",
        f"postgresql://u:{SECRET}@h/k?host=a=b",
        f"postgresql://u:{SECRET} @h/k",
        f"postgresql://u:{SECRET}@h/k%0A",
        f"postgresql://u:{SECRET}%ff@h/k",
        f"postgresql://u:{SECRET}@{','.join('h' * 17)}/k",
        f"postgresql://u:{SECRET}@h/{'k' * 4096}",
        f"postgresql:{SECRET}",
        f"POSTGRESQL://u:{SECRET}@h/k",
        f"mysql://u:{SECRET}@h/k",
        f"sqlite:///{SECRET}",
        f"file:///{SECRET}",
        f"http://h/{SECRET}",
    ],
)
def test_what_is_wrong_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_place(text)
    assert SECRET not in str(caught.value)
    assert is_url(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("mysql://h/k", r"no store is kept by mysql://: .* postgresql:///kapla"),
        ("sqlite:///srv/x", "by its path, without sqlite://"),
        ("file:///srv/x", "by its path, without file://"),
        ("postgresql:kapla", "is written as postgresql:///kapla"),
        ("postgresql://h/", "names no database"),
        ("postgresql://h/k?x", "name=value"),
        ("", "a path is expected, or the URL of a database"),
    ],
)
def test_what_to_do_about_it_is_told(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        parse_place(text)


@pytest.mark.parametrize("text", ["/srv/a", "a:b", "a/b://c", "./mysql://h"])
def test_a_path(text: str) -> None:
    assert parse_place(text) == Path(text).absolute()
    assert not is_url(text)


@pytest.mark.parametrize(
    ("text", "password", "hosts", "database"),
    [
        ("postgresql://u:p?x@h/k", "p?x", "h", "k"),
        ("postgresql://%2Frun%2Fpg:7/k", None, "/run/pg", "k"),
        ("postgresql://a:1,b:2/a%2Fb", None, "a,b", "a/b"),
        ("postgresql://h?dbname=x", None, "h", "x"),
        ("postgresql:///k?password=a%26b&host=/x", "a&b", "/x", "k"),
    ],
)
def test_libpq_reads_the_same(text: str, password: str | None, hosts: str, database: str) -> None:
    conninfo = pytest.importorskip("psycopg.conninfo", reason="psycopg is not installed")
    found = conninfo.conninfo_to_dict(text)
    told = tuple(found.get(name) for name in ("password", "host", "dbname"))
    assert told == (password, hosts, database)
    ours = parse_database_url(text)
    assert ours.has_password == (password is not None)
    # What is shown is a URL again, which leads there too.
    shown = conninfo.conninfo_to_dict(str(ours))
    assert (shown["host"], shown["dbname"]) == (hosts, database)


@pytest.mark.parametrize("option", ["--check-config", "--check", "--salvage=new"])
def test_no_output_of_kaplad_has_a_password(tmp_path: Path, option: str) -> None:
    url = f"postgresql://u:{SECRET}@127.0.0.1:1/kapla"
    done = subprocess.run(
        [sys.executable, "-m", "kapla", "--debug", "--store", url, option],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": "/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert SECRET not in done.stdout + done.stderr
    if option == "--check-config":
        assert "the database kapla on 127.0.0.1, port 1; it is not asked here" in done.stderr
        assert "a password stands in the URL" in done.stderr
        assert done.returncode == 0
    else:
        assert done.returncode
        assert "Traceback" not in done.stderr
    # It was never taken for a path.
    assert not list(tmp_path.iterdir())
