"""Real Nix fetches its substitutes from `kapla publish`."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from guix_glue.formats.narinfo import Narinfo
from guix_glue.formats.store_path import fixed_output_path
from guix_glue.local.archive import nar_hash
from tests.eris_fs.trees import File, Link, Node, lay_out, read_back
from tests.guix_glue.publish.support import Answer, Publisher, publishing
from tests.integration.daemon import running_daemon, wait_until
from tests.integration.nix_programs import nix

pytestmark = pytest.mark.skipif(shutil.which("nix-store") is None, reason="Nix is not installed")

GREETING: Node = {
    "bin": {"hello": File(b"#!/bin/sh\necho hello\n", executable=True)},
    "run": Link("bin/hello"),
    "empty": {},
    "\u00e4": File(b"x" * 10_000),
}
WORDS: Node = File(b"words\n")


class Published:
    """Two items, one of which refers to the other, and the key they are signed with."""

    def __init__(self, directory: Path) -> None:
        self.items = directory / "items"
        self.items.mkdir()
        self.paths = {}
        for name, node in (("greeting", GREETING), ("words", WORDS)):
            lay_out(node, self.items / name)
            digest, _ = nar_hash(str(self.items / name))
            self.paths[name] = fixed_output_path("/nix/store", name, digest, recursive=True)
        (self.items / "items.toml").write_text('[greeting]\nreferences = ["words"]\n')
        made = nix(directory, "nix", "key", "generate-secret", "--key-name", "kapla-1")
        assert made.returncode == 0, made.stderr
        self.secret = directory / "secret"
        self.secret.write_text(made.stdout)
        converted = nix(directory, "nix", "key", "convert-secret-to-public", stdin=made.stdout)
        self.public = converted.stdout.strip()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return Published(tmp_path_factory.mktemp("nix"))


@pytest.fixture(params=["zstd", "gzip", "none"])
def publisher(
    published: Published, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Publisher]:
    arguments = ("--items", published.items, "--nix-key", published.secret, "-C", request.param)
    with publishing(tmp_path, *arguments, "--eris") as running:
        yield running


def narinfos(published: Published, publisher: Publisher) -> list[Answer]:
    """That of each item, the greeting's first."""
    return [
        publisher.request(f"/{path[11:43]}.narinfo")
        for path in (published.paths["greeting"], published.paths["words"])
    ]


def realise(
    published: Published, publisher: Publisher, home: Path, key: str, path: str | None = None
) -> subprocess.CompletedProcess[str]:
    (home / "home").mkdir(exist_ok=True)
    return nix(
        home / "home",
        "nix-store",
        "--store",
        home / "root",
        "--option",
        "substituters",
        publisher.url,
        "--option",
        "trusted-public-keys",
        key,
        "--realise",
        path or published.paths["greeting"],
    )


def test_an_item_and_what_it_refers_to(
    published: Published, publisher: Publisher, tmp_path: Path
) -> None:
    done = realise(published, publisher, tmp_path, published.public)
    assert done.returncode == 0, done.stderr
    assert read_back(tmp_path / "root" / published.paths["greeting"][1:]) == GREETING
    assert read_back(tmp_path / "root" / published.paths["words"][1:]) == WORDS


def test_of_several_compressions_nix_takes_the_smallest(
    published: Published, tmp_path: Path
) -> None:
    arguments = ("--items", published.items, "--nix-key", published.secret)
    choices = ("-C", "zstd:1", "-C", "lzip:9", "-C", "gzip:1", "-C", "none")
    (tmp_path / "home").mkdir()
    with publishing(tmp_path, *arguments, *choices) as publisher:

        def is_baked() -> bool:
            told = [answer.narinfo("/nix/store") for answer in narinfos(published, publisher)]
            return all(len(narinfo.urls) == 4 for narinfo in told)

        wait_until(is_baked, "all compressions")
        urls = narinfos(published, publisher)[0].narinfo("/nix/store").urls
        sizes = [url.file_size or 0 for url in urls]
        assert sizes == sorted(sizes, reverse=True)
        smallest = urls[-1]
        told = nix(
            tmp_path / "home",
            *("nix", "path-info", "--json", "--store", publisher.url),
            published.paths["greeting"],
        )
        assert told.returncode == 0, told.stderr
        (info,) = json.loads(told.stdout)
        assert info["url"] == smallest.url
        assert info["downloadSize"] == smallest.file_size
        done = realise(published, publisher, tmp_path, published.public)
        assert done.returncode == 0, done.stderr
        assert read_back(tmp_path / "root" / published.paths["greeting"][1:]) == GREETING


def test_what_left_is_there_for_a_nix_that_remembers(published: Published, tmp_path: Path) -> None:
    items = tmp_path / "items"
    shutil.copytree(published.items, items, symlinks=True)
    arguments = ("--items", items, "--nix-key", published.secret, "-C", "zstd", "--ttl", "1d")
    (tmp_path / "home").mkdir()
    with publishing(tmp_path, *arguments) as publisher:
        # Nix is told of the plain nars alone, and keeps that for thirty days.
        for path in published.paths.values():
            shown = nix(tmp_path / "home", "nix", "path-info", "--store", publisher.url, path)
            assert shown.returncode == 0, shown.stderr

        def is_baked() -> bool:
            return all(answer.max_age == 86_400 for answer in narinfos(published, publisher))

        wait_until(is_baked, "baking")
        shutil.rmtree(items)
        items.mkdir()
        publisher.stop()
        # The memory of Nix is by URL.
        publisher.arguments += ["--port", str(publisher.port)]
        publisher.start()
        done = realise(published, publisher, tmp_path, published.public)
        assert done.returncode == 0, done.stderr
        assert read_back(tmp_path / "root" / published.paths["greeting"][1:]) == GREETING


def test_nix_passes_over_deltas(published: Published, tmp_path: Path) -> None:
    items = tmp_path / "items"
    items.mkdir()
    content = bytearray(random.Random(0).randbytes(50_000))
    for version in (b"1", b"2"):
        content[:1] = version
        (items / f"data-{version.decode()}").write_bytes(content)
    paths = {
        name: fixed_output_path("/nix/store", name, nar_hash(str(items / name))[0], recursive=True)
        for name in ("data-1", "data-2")
    }
    with running_daemon(tmp_path) as daemon:
        eris = (f"--eris={daemon.url}", "--eris-level", "1", "--ttl", "1d")
        nix_key = ("--nix-key", published.secret, "-C", "zstd:1")
        with publishing(tmp_path, "--items", items, *nix_key, *eris) as publisher:

            def told(name: str) -> Narinfo:
                return publisher.request(f"/{paths[name][11:43]}.narinfo").narinfo("/nix/store")

            wait_until(lambda: told("data-1").hint_urn is not None, "the base")
            wait_until(lambda: bool(told("data-2").hint_deltas), "the delta")
            assert [line.base for line in told("data-2").hint_deltas] == [paths["data-1"][11:]]
            done = realise(published, publisher, tmp_path, published.public, paths["data-2"])
            assert done.returncode == 0, done.stderr
            found = tmp_path / "root" / paths["data-2"][1:]
            assert found.read_bytes() == (items / "data-2").read_bytes()


def test_a_key_that_is_not_trusted(
    published: Published, publisher: Publisher, tmp_path: Path
) -> None:
    other = f"{published.public.partition(':')[0]}:{'A' * 43}="
    done = realise(published, publisher, tmp_path, other)
    assert done.returncode != 0
    assert not (tmp_path / "root" / published.paths["greeting"][1:]).exists()


def test_copying_asks_by_head_first(
    published: Published, publisher: Publisher, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    done = nix(
        tmp_path / "home",
        "nix",
        "copy",
        "--from",
        publisher.url,
        "--to",
        tmp_path / "root",
        "--option",
        "trusted-public-keys",
        published.public,
        published.paths["greeting"],
    )
    assert done.returncode == 0, done.stderr
    assert read_back(tmp_path / "root" / published.paths["greeting"][1:]) == GREETING
