"""Nars out of deltas and items that are here, which may have been altered."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guix_glue.formats.narinfo import parse_narinfo
from guix_glue.local.installed import InstalledItems
from guix_glue.proxy.settings import NarSettings
from guix_glue.servers.url import parse_server
from guix_glue.sources.vouching import Candidate, Vouched
from tests.guix_glue.fetch.fakes import FakeServer
from tests.guix_glue.fetch.upgrades import Upgrade, make_upgrade
from tests.guix_glue.proxy.support import (
    PATIENT,
    STREAMING,
    Watched,
    flipped,
    proxying,
    run,
    take,
    vouch,
)


@pytest.fixture(scope="module")
def made_upgrade(tmp_path_factory: pytest.TempPathFactory) -> Upgrade:
    return make_upgrade(tmp_path_factory.mktemp("upgrade"))


@pytest.fixture
def upgrade(made_upgrade: Upgrade, tmp_path: Path) -> Upgrade:
    """One of which the old item may be altered."""
    store_dir = tmp_path / "store"
    shutil.copytree(made_upgrade.store_dir, store_dir, symlinks=True)
    item = replace(made_upgrade.new.item, path=f"{store_dir}/{made_upgrade.new.item.base_name}")
    new = replace(made_upgrade.new, item=item)
    return replace(
        made_upgrade, store_dir=store_dir, old=store_dir / made_upgrade.old.name, new=new
    )


def by_delta(upgrade: Upgrade, server: FakeServer, **more: Any) -> Vouched:
    text = upgrade.narinfo([upgrade.line], **more)
    server.files[f"/nar/{upgrade.new.item.base_name}"] = upgrade.new.nar
    narinfo = parse_narinfo(text, store_dir=str(upgrade.store_dir))
    return vouch(Candidate(parse_server(server.url), narinfo))


def installed(upgrade: Upgrade) -> InstalledItems:
    return InstalledItems(str(upgrade.store_dir.parent / "db"), str(upgrade.store_dir))


@pytest.mark.parametrize("settings", [PATIENT, STREAMING])
def test_by_a_delta(
    upgrade: Upgrade, server: FakeServer, tmp_path: Path, settings: NarSettings
) -> None:
    async def main() -> None:
        store = Watched(upgrade.blocks)
        async with proxying(
            tmp_path / "cache", store, installed=installed(upgrade), settings=settings
        ) as nars:
            found = await take(nars, by_delta(upgrade, server, urn=upgrade.packed))
            assert found == upgrade.new.nar
        assert server.requests == []
        # Far less than the item is.
        assert 0 < store.asked < 12

    run(main())


@pytest.mark.parametrize("settings", [PATIENT, STREAMING])
def test_a_delta_whose_base_was_altered(
    upgrade: Upgrade, server: FakeServer, tmp_path: Path, settings: NarSettings
) -> None:
    """Signed or not: what comes of it is not the item, and nothing of it goes out."""
    program = upgrade.old / "bin/app"
    content = program.read_bytes()
    program.chmod(0o755)
    program.write_bytes(flipped(content, 200_000))

    async def main() -> None:
        async with proxying(
            tmp_path / "cache", upgrade.blocks, installed=installed(upgrade), settings=settings
        ) as nars:
            assert await take(nars, by_delta(upgrade, server)) == upgrade.new.nar
        assert len(server.requests) == 1

    run(main())
