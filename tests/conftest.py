"""What holds for all tests."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from tests.order import begin_at, files_of, rank
from tests.postgres import empty_server, postgres_server, postgres_url

__all__ = ["empty_server", "postgres_server", "postgres_url"]

# Servers of tests are on this machine, wherever it is and however it gets out.
for name in [one for one in os.environ if one.lower().endswith("_proxy")]:
    del os.environ[name]
# What one test was told is nothing to the next one, nor to the user who runs them.
os.environ["KAPLA_NARINFO_CACHE"] = "none"
_data = tempfile.TemporaryDirectory(prefix="kapla-tests-")
os.environ["XDG_DATA_HOME"] = _data.name

# A shell that runs this in the background has it ignored, and so would all that is started here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says something about the machine, not about the code.
#
# The suite tries the same examples each time: what passed yesterday and fails today was changed.
# `make campaign` is for finding more, with seeds that it prints, and tries 100 of each.
settings.register_profile("suite", deadline=None, derandomize=True, database=None, max_examples=40)
settings.register_profile("campaign", deadline=None, database=None, print_blob=True)
settings.load_profile("suite")


_TESTS = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    """Let each of several workers that are to run all tests begin to read them elsewhere.

    What is collected stays: nothing is gained by looking for garbage among it.
    """
    gc.disable()
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if worker and [Path(one).absolute() for one in config.args] == [_TESTS]:
        workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        config.args = [str(file) for file in begin_at(files_of(_TESTS), int(worker), workers)]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files that take longest first, whatever order they were read in."""
    items.sort(key=lambda item: rank(item.nodeid.partition("::")[0]))


def pytest_collection_finish() -> None:
    """Take what was collected out of the collector's sight.

    It stays to the end, and looking through it takes longer than many a test.
    """
    gc.enable()
    gc.collect()
    gc.freeze()
