"""What tests of the proxy share: goods, which nobody changes, and servers of files."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.guix_glue.fetch.fakes import FakeServer, running_server
from tests.guix_glue.proxy.support import Goods, make_goods


@pytest.fixture(scope="session")
def goods(tmp_path_factory: pytest.TempPathFactory) -> Goods:
    return make_goods(tmp_path_factory.mktemp("goods"))


@pytest.fixture(scope="session")
def file_servers() -> Iterator[tuple[FakeServer, FakeServer]]:
    with running_server() as first, running_server() as second:
        yield first, second


@pytest.fixture
def server(file_servers: tuple[FakeServer, FakeServer]) -> FakeServer:
    for one in file_servers:
        one.files.clear()
        one.requests.clear()
    return file_servers[0]


@pytest.fixture
def second(server: FakeServer, file_servers: tuple[FakeServer, FakeServer]) -> FakeServer:
    return file_servers[1]
