"""Settings together: all that is wrong at once, where values come from, what does not agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from kapla.config import Misconfigured, Sources, load, load_config
from kapla.config.load import DEFAULT

KEY = "ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
OTHER = "ed25519:SJ1gdpk4fgwKjNzR4wNhoWPmnEXkXAXJ8fsEcaAjb_c"


@pytest.fixture(autouse=True)
def a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)


def write(directory: Path, text: str) -> str:
    file = directory / "kapla.toml"
    file.write_text(text)
    return str(file)


def problems(file: str | None = None, **more: str) -> list[str]:
    with pytest.raises(Misconfigured) as caught:
        load(Sources(file, environment=more))
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(problem) for problem in caught.value.problems]


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        f"""store = 5
max_size = "1 GiB"

when-full = "evit"
[[peers]]
url = "coaps+tcp://h#{KEY}"
right = []

[[peers]]
name = "x"

[[peers]]
key = "{OTHER}"
max-rate = "slow"
""",
    )
    found = problems(file, KAPLA_MAX_CONNECTIONS="0", KAPLA_LOG_LEVEL="loud")
    beginnings = [
        f"{file}:1: store: a path is expected",
        f"{file}:2: unknown key 'max_size'; did you mean 'max-size'?",
        f"{file}:4: when-full: expected one of evict, refuse; did you mean 'evict'?",
        f"{file}:7: peers: peer 1: unknown key 'right'; did you mean 'rights'?",
        f"{file}:9: peers: peer 2: one of url (we dial it) and key",
        f"{file}:14: peers: peer 3: max-rate: a size is",
        "$KAPLA_MAX_CONNECTIONS: a number from 1 to 100000 is expected",
        "$KAPLA_LOG_LEVEL: expected one of debug",
    ]
    assert len(found) == len(beginnings)
    assert all(a.startswith(b) for a, b in zip(found, beginnings, strict=True)), found


def test_a_file_that_is_no_toml_does_not_hide_what_else_is_wrong(tmp_path: Path) -> None:
    file = write(tmp_path, "log-level = debug")
    found = problems(file, KAPLA_WHEN_FULL="never")
    assert found[0] == f"{file}:1: Invalid value, in column 13; a text stands in quotes"
    assert found[1].startswith("$KAPLA_WHEN_FULL: ")


def test_a_file_has_limits(tmp_path: Path) -> None:
    [large] = problems(write(tmp_path, "#" * (2**20 + 1)))
    assert "over 1 MiB" in large
    [deep] = problems(write(tmp_path, "a = " + "[" * 100_000))
    assert "nested too deeply" in deep


def test_each_value_has_its_origin(tmp_path: Path) -> None:
    file = write(tmp_path, f'\nmax-size = "1 GiB"\nmin-free = 1\n[[peers]]\nkey = "{KEY}"\n')
    environment = {"KAPLA_MIN_FREE": "2", "KAPLA_PEERS": f"coaps+tcp://h#{OTHER}"}
    flags = {"store": "/s", "listen": ("coap+unix:///a", "coap+tcp://h:7"), "http": ()}
    loaded = load(Sources(file, flags, debug=True, environment=environment))
    assert str(loaded.file) == file
    assert {
        name: loaded.origin(name)
        for name in ("store", "listen", "max_size", "min_free", "peers", "log_level", "http")
    } == {
        "store": "--store",
        "listen": "--listen",
        "max_size": f"{file}:2",
        "min_free": "$KAPLA_MIN_FREE",
        "peers": f"{file}:4, $KAPLA_PEERS",
        "log_level": "--debug",
        "http": DEFAULT,
    }
    assert loaded.config.min_free == 2
    assert len(loaded.config.peers) == 2


def test_a_flag_that_there_is_not_is_a_mistake_of_a_program() -> None:
    with pytest.raises(TypeError, match="loud"):
        load_config(environment={}, loud="1")


@pytest.mark.parametrize(
    ("lines", "hint"),
    [
        ('listen = ["coap+unix:///s/a", "coap+unix:///s/a?get"]', "/s/a is a listener already"),
        ('listen = ["coap+unix:///s/a"]\nadmin = "unix:/s/a"', "/s/a is a listener already"),
        ('listen = ["coap+unix:///s/store"]', "/s/store is the store already"),
        ('listen = ["coap+tcp://[::]", "coaps+tcp://[::1]:5683"]', "a listener has port 5683"),
        ('listen = ["coap+tcp://h"]\nhttp = "H:5683"', "a listener has port 5683"),
        ('http = "0.0.0.0:80"\nadmin = "127.0.0.1:80"', "a place of http has port 80"),
    ],
)
def test_two_cannot_have_one_place(tmp_path: Path, lines: str, hint: str) -> None:
    file = write(tmp_path, f'store = "/s/store"\n{lines}')
    [found] = problems(file)
    last = 1 + len(lines.split("\n"))
    assert found.startswith(f"{file}:{last}: ")
    assert hint in found


@pytest.mark.parametrize(
    "lines",
    [
        'listen = ["coap+tcp://0.0.0.0", "coap+tcp://[::]"]',
        'listen = ["coap+tcp://127.0.0.1:0", "coap+tcp://127.0.0.1:0"]',
        'listen = ["coap+tcp://127.0.0.1", "coap+tcp://127.0.0.2"]',
        'listen = ["coap+tcp://[::1]:1"]\nhttp = "127.0.0.1:1"',
    ],
)
def test_places_that_only_look_alike(tmp_path: Path, lines: str) -> None:
    load_config(file=write(tmp_path, f'store = "/s/store"\n{lines}'), environment={})


def test_networks_need_somebody_who_looks(tmp_path: Path) -> None:
    [found] = problems(
        write(tmp_path, 'discover-networks = "192.168.1.0/24 via aa:bb:cc:dd:ee:ff"')
    )
    assert "kapla.toml:1: discover-networks: " in found
    assert 'needs discover = "lan"' in found


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ('min-free = "1G"', "max-size says how large a database may become"),
        ('scrub-rate = "1 MiB"', "kaplad --check looks at all blocks"),
    ],
)
def test_what_means_nothing_for_a_database(tmp_path: Path, line: str, hint: str) -> None:
    file = write(tmp_path, f'store = "postgresql:///kapla"\n{line}\n')
    (problem,) = problems(file)
    assert problem.startswith(f"{file}:2: {line.partition(' ')[0]}: ")
    assert hint in problem
    config = load_config(file=write(tmp_path, 'store = "postgresql:///k"'), environment={})
    assert (str(config.store), config.scrub_rate) == ("postgresql:///k", 0)
    with pytest.raises(Misconfigured, match="--rebuild-index: that is of a file"):
        load_config(store="postgresql:///k", rebuild_index=True, environment={})
