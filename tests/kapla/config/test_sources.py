"""Settings: where they come from, which wins, and what is said of a wrong one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kapla import config as config_module
from kapla.config import Config, default_socket, load_config
from kapla.errors import ConfigError
from kapla.urls import TcpEndpoint, UnixEndpoint
from tests.nobody import become_nobody

GIB = 2**30


@pytest.fixture(autouse=True)
def a_user_of_this_test_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("KAPLA_", "XDG_", "ERIS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    become(monkeypatch, 1000)


def become(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)


def write(directory: Path, text: str) -> str:
    file = directory / "kapla.toml"
    file.write_text(text)
    return str(file)


# --- where a setting comes from ---------------------------------------------------------------


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        'store = "/file/store"\nlisten = ["coap+unix:///file.sock"]\nlog-level = "error"\n',
    )
    environment = {
        "KAPLA_STORE": "/environment/store",
        "KAPLA_LISTEN": "coap+unix:///environment.sock",
        "KAPLA_LOG_LEVEL": "warning",
    }
    from_file = load_config(file=file, environment={})
    assert from_file.store == Path("/file/store")
    assert [str(url) for url in from_file.listen] == ["Unix socket /file.sock"]
    assert from_file.log_level == "error"

    from_environment = load_config(file=file, environment=environment)
    assert from_environment.store == Path("/environment/store")
    assert [str(url) for url in from_environment.listen] == ["Unix socket /environment.sock"]
    assert from_environment.log_level == "warning"

    from_flags = load_config(
        file=file,
        environment=environment,
        store="/flag/store",
        listen=("coap+unix:///flag.sock", "coap+tcp://[::1]:7"),
        max_size="3 GiB",
        min_free="1 GiB",
        when_full="refuse",
        debug=True,
    )
    assert from_flags.store == Path("/flag/store")
    assert [str(url) for url in from_flags.listen] == ["Unix socket /flag.sock", "TCP [::1]:7"]
    assert (from_flags.max_size, from_flags.min_free) == (3 * GIB, GIB)
    assert from_flags.when_full == "refuse"
    assert from_flags.log_level == "debug"


@pytest.mark.parametrize(
    ("line", "variable", "text", "field", "value"),
    [
        ('store = "/a"', "KAPLA_STORE", "/a", "store", Path("/a")),
        ('max-size = "2 GiB"', "KAPLA_MAX_SIZE", "2 GiB", "max_size", 2 * GIB),
        ('max-size = "50 GB"', "KAPLA_MAX_SIZE", "50 GB", "max_size", 50 * 10**9),
        ("max-size = 5_000_000", "KAPLA_MAX_SIZE", "5000000", "max_size", 5_000_000),
        ("min-free = 0", "KAPLA_MIN_FREE", "0", "min_free", 0),
        ('when-full = "refuse"', "KAPLA_WHEN_FULL", "refuse", "when_full", "refuse"),
        ('synchronous = "full"', "KAPLA_SYNCHRONOUS", "full", "synchronous", "full"),
        (
            'max-pinned-bytes = "1 GiB"',
            "KAPLA_MAX_PINNED_BYTES",
            "1 GiB",
            "max_pinned",
            GIB,
        ),
        ("max-pinned-bytes = 0", "KAPLA_MAX_PINNED_BYTES", "0", "max_pinned", 0),
        ('max-put-rate = "10M"', "KAPLA_MAX_PUT_RATE", "10M", "max_put_rate", 10 << 20),
        ('max-put-rate = "40 k"', "KAPLA_MAX_PUT_RATE", "40 k", "max_put_rate", 40 << 10),
        ('max-put-rate = "1 GiB"', "KAPLA_MAX_PUT_RATE", "1 GiB", "max_put_rate", GIB),
        ('max-put-rate = "10MB"', "KAPLA_MAX_PUT_RATE", "10MB", "max_put_rate", 10**7),
        ("max-put-rate = 32768", "KAPLA_MAX_PUT_RATE", "32768", "max_put_rate", 32768),
        ("max-connections = 7", "KAPLA_MAX_CONNECTIONS", "7", "max_connections", 7),
        ("lend-cache = false", "KAPLA_LEND_CACHE", "false", "lend_cache", False),
        ("lend-cache = true", "KAPLA_LEND_CACHE", "true", "lend_cache", True),
        ('log-level = "debug"', "KAPLA_LOG_LEVEL", "debug", "log_level", "debug"),
        ('log-format = "json"', "KAPLA_LOG_FORMAT", "json", "log_format", "json"),
    ],
)
def test_every_setting_may_stand_in_the_file_and_in_the_environment(
    tmp_path: Path, line: str, variable: str, text: str, field: str, value: object
) -> None:
    assert getattr(load_config(file=write(tmp_path, line), environment={}), field) == value
    assert getattr(load_config(environment={variable: text}), field) == value


def test_listeners_in_the_environment_are_separated_by_spaces() -> None:
    config = load_config(environment={"KAPLA_LISTEN": "coap+unix:///a.sock?get  coap+tcp://b"})
    assert [str(url) for url in config.listen] == ["Unix socket /a.sock", "TCP b:5683"]


def test_an_empty_variable_is_none(tmp_path: Path) -> None:
    names = "STORE LISTEN MAX_SIZE MAX_PUT_RATE SYNCHRONOUS MAX_CONNECTIONS LOG_LEVEL CONFIG"
    environment = {f"KAPLA_{name}": "" for name in names.split()}
    assert load_config(environment=environment).max_size is None


def test_kapla_config_names_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "max-connections = 3")
    assert load_config(environment={"KAPLA_CONFIG": file}).max_connections == 3
    other = tmp_path / "other.toml"
    other.write_text("max-connections = 4")
    config = load_config(file=str(other), environment={"KAPLA_CONFIG": file})
    assert config.max_connections == 4


def test_a_users_own_file_is_read(tmp_path: Path) -> None:
    directory = tmp_path / ".config" / "kapla"
    directory.mkdir(parents=True)
    write(directory, "max-connections = 5")
    assert load_config(environment={}).max_connections == 5


def test_xdg_config_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    directory = tmp_path / "settings" / "kapla"
    directory.mkdir(parents=True)
    write(directory, "max-connections = 6")
    assert load_config(environment={}).max_connections == 6


def test_a_users_file_is_not_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / ".config" / "kapla"
    directory.mkdir(parents=True)
    write(directory, "this is not TOML")
    become(monkeypatch, 0)
    load_config(environment={})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every directory")
def test_a_directory_that_may_not_be_searched_holds_no_file(tmp_path: Path) -> None:
    directory = tmp_path / ".config" / "kapla"
    directory.mkdir(parents=True)
    write(directory, "max-connections = 5")
    directory.chmod(0)
    try:
        assert load_config(environment={}).max_connections == 512
    finally:
        directory.chmod(0o700)


# --- defaults ---------------------------------------------------------------------------------


def test_defaults_of_a_user(tmp_path: Path) -> None:
    environment = {"XDG_RUNTIME_DIR": "/run/user/1000"}
    config = load_config(environment=environment)
    assert config == Config(
        store=tmp_path / ".local/share/kapla/blocks.sqlite", listen=config.listen
    )
    [url] = config.listen
    assert url.endpoint == UnixEndpoint(Path("/run/user/1000/eris.sock"))
    assert url.flags.allow is None
    assert config.default_listen
    assert (config.synchronous, config.max_size, config.log_level) == ("normal", None, "info")


def test_xdg_data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert load_config(environment={}).store == tmp_path / "data/kapla/blocks.sqlite"


def test_without_a_home_a_store_is_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    become_nobody(monkeypatch)
    with pytest.raises(ConfigError, match=r"no home directory .* --store"):
        load_config(environment={})
    assert load_config(environment={}, store="/s").store == Path("/s")
    assert load_config(environment={"KAPLA_STORE": "/t"}).store == Path("/t")


def test_without_a_runtime_directory() -> None:
    assert default_socket({}) == Path("/run/user/1000/eris.sock")
    assert default_socket({"XDG_RUNTIME_DIR": ""}) == Path("/run/user/1000/eris.sock")


def test_defaults_of_root(monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 0)
    # What a user left in the environment does not move the system's daemon.
    environment = {"XDG_RUNTIME_DIR": "/run/user/1000", "XDG_DATA_HOME": "/home/user"}
    config = load_config(environment=environment)
    assert config.store == Path("/var/lib/kapla/blocks.sqlite")
    assert [str(url) for url in config.listen] == ["Unix socket /run/eris.sock"]


def test_listeners_replace_the_default() -> None:
    config = load_config(listen=("coap+unix:///a.sock",), environment={})
    assert not config.default_listen
    assert len(config.listen) == 1


@pytest.mark.parametrize("name", ["with space", "per%41cent", "que?ry", "ha#sh", "é"])
def test_the_runtime_directory_may_have_any_name(name: str) -> None:
    config = load_config(environment={"XDG_RUNTIME_DIR": f"/run/{name}"})
    assert config.listen[0].endpoint == UnixEndpoint(Path(f"/run/{name}/eris.sock"))


@pytest.mark.parametrize("directory", ["/" + "x" * 110, "relative"])
def test_a_default_socket_that_cannot_be(directory: str) -> None:
    with pytest.raises(ConfigError, match="default socket"):
        load_config(environment={"XDG_RUNTIME_DIR": directory})


def test_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(store="a/../b", environment={}).store == tmp_path / "b"
    assert load_config(store="~/c", environment={}).store == tmp_path / "c"


def test_flags_of_a_listener() -> None:
    config = load_config(
        listen=("coap+unix:///a.sock?get&put&stat&mode=0660&group=kapla", "coap+tcp://h:1?get"),
        environment={},
    )
    first, second = config.listen
    assert first.flags.allow == frozenset({"get", "put", "stat"})
    assert (first.flags.mode, first.flags.group) == (0o660, "kapla")
    assert second.flags.allow == frozenset({"get"})
    assert second.endpoint == TcpEndpoint("h", 1)


# --- wrong ones -------------------------------------------------------------------------------

# RFC 8032, section 7.1, test 1.
BY_KEY = "coaps+tcp://h#ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
WITH_KEY = BY_KEY.replace("#", "?key=/k#")

WRONG = [
    ('store = ""', "KAPLA_STORE", None, "path"),
    ("store = 5", "KAPLA_STORE", None, "path"),
    ('store = "a\\u0000b"', "KAPLA_STORE", None, "path"),
    ('store = "/"', "KAPLA_STORE", "/", "path of a file"),
    ('store = "~no-such-user/x"', "KAPLA_STORE", "~no-such-user/x", "user"),
    ("listen = []", "KAPLA_LISTEN", " ", "list of URLs"),
    ("listen = [5]", "KAPLA_LISTEN", None, "list of URLs"),
    ("listen = 5", "KAPLA_LISTEN", None, "list of URLs"),
    ('listen = ["coap+unix:///a", "x"]', "KAPLA_LISTEN", "coap+unix:///a x", "URL 2"),
    ('listen = ["coap+tcp://h/a"]', "KAPLA_LISTEN", "coap+tcp://h/a", "URL 1"),
    ('listen = ["coap+tcp://h?mode=600"]', "KAPLA_LISTEN", "coap+tcp://h?mode=600", "Unix"),
    ('listen = ["coaps+tcp://h?mode=600"]', "KAPLA_LISTEN", "coaps+tcp://h?mode=600", "Unix"),
    ('listen = ["coaps+tcp://h?ca=/a"]', "KAPLA_LISTEN", "coaps+tcp://h?ca=/a", "cert and key"),
    (f'listen = ["{BY_KEY}"]', "KAPLA_LISTEN", BY_KEY, "its own key"),
    (f'listen = ["{WITH_KEY}"]', "KAPLA_LISTEN", WITH_KEY, "its own key"),
    ('listen = ["coap+tcp://h?group=a"]', "KAPLA_LISTEN", "coap+tcp://h?group=a", "Unix"),
    ('listen = ["coap+unix:///a?write"]', "KAPLA_LISTEN", "coap+unix:///a?write", "flag"),
    ('listen = ["coap+tcp://h:99999"]', "KAPLA_LISTEN", "coap+tcp://h:99999", "port"),
    ("max-size = 0", "KAPLA_MAX_SIZE", "0", "1 MiB"),
    ("max-size = -1", "KAPLA_MAX_SIZE", "-1", ""),
    ("max-size = true", "KAPLA_MAX_SIZE", "true", "10 GiB"),
    ("max-size = inf", "KAPLA_MAX_SIZE", "inf", "10 GiB"),
    ("max-size = []", "KAPLA_MAX_SIZE", "[]", "10 GiB"),
    ('max-size = "ten"', "KAPLA_MAX_SIZE", "ten", "10 GiB"),
    ('max-size = "10 Gb/s"', "KAPLA_MAX_SIZE", "10 Gb/s", "10 GiB"),
    (f'max-size = "{"9" * 400}"', "KAPLA_MAX_SIZE", "9" * 400, "10 GiB"),
    ("min-free = -1", "KAPLA_MIN_FREE", "-1", "10 GiB"),
    ('when-full = "evicts"', "KAPLA_WHEN_FULL", "evicts", "evict, refuse"),
    ("max-put-rate = 0", "KAPLA_MAX_PUT_RATE", "0", "32 KiB"),
    ('max-put-rate = "31K"', "KAPLA_MAX_PUT_RATE", "31K", "32 KiB"),
    ('max-put-rate = "fast"', "KAPLA_MAX_PUT_RATE", "fast", "10 GiB"),
    ('max-put-rate = "10 MiK"', "KAPLA_MAX_PUT_RATE", "10 MiK", "10 GiB"),
    ("max-put-rate = true", "KAPLA_MAX_PUT_RATE", "true", "10 GiB"),
    ('synchronous = "off"', "KAPLA_SYNCHRONOUS", "off", "normal, full"),
    ("synchronous = true", "KAPLA_SYNCHRONOUS", "true", "normal, full"),
    ("max-pinned-bytes = -1", "KAPLA_MAX_PINNED_BYTES", "-1", ""),
    ("max-pinned-bytes = true", "KAPLA_MAX_PINNED_BYTES", "true", "10 GiB"),
    (f'max-pinned-bytes = "{"9" * 18} TiB"', "KAPLA_MAX_PINNED_BYTES", "9" * 18 + "TiB", "bytes"),
    ("max-connections = 0", "KAPLA_MAX_CONNECTIONS", "0", "100000"),
    ("max-connections = 100001", "KAPLA_MAX_CONNECTIONS", "100001", "100000"),
    ("max-connections = inf", "KAPLA_MAX_CONNECTIONS", "inf", "100000"),
    ("max-connections = true", "KAPLA_MAX_CONNECTIONS", "true", "100000"),
    ("max-connections = 2.5", "KAPLA_MAX_CONNECTIONS", "2.5", "100000"),
    ("max-connections = []", "KAPLA_MAX_CONNECTIONS", "[]", "100000"),
    ("lend-cache = 1", "KAPLA_LEND_CACHE", "1", "true or false"),
    ('lend-cache = "off"', "KAPLA_LEND_CACHE", "off", "true or false"),
    ("lend-cache = []", "KAPLA_LEND_CACHE", "[]", "true or false"),
    ('log-level = "loud"', "KAPLA_LOG_LEVEL", "loud", "debug, info"),
    ('log-level = "INFO"', "KAPLA_LOG_LEVEL", "INFO", "debug, info"),
]


@pytest.mark.parametrize(("line", "variable", "text", "hint"), WRONG)
def test_a_wrong_value_names_its_place(
    tmp_path: Path, line: str, variable: str, text: str | None, hint: str
) -> None:
    file = write(tmp_path, line)
    with pytest.raises(ConfigError) as caught:
        load_config(file=file, environment={})
    key = line.partition(" ")[0]
    assert str(caught.value).startswith(f"{file}:1: {key}: ")
    assert hint in str(caught.value)
    if text is None:
        return
    with pytest.raises(ConfigError) as caught:
        load_config(environment={variable: text})
    assert str(caught.value).startswith(f"${variable}: ")
    assert hint in str(caught.value)


def test_a_wrong_flag_names_its_place() -> None:
    with pytest.raises(ConfigError, match=r"^--store: "):
        load_config(store="", environment={})
    with pytest.raises(ConfigError, match=r"^--listen: URL 2: "):
        load_config(listen=("coap+unix:///a", "http://b"), environment={})


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("max_size", "did you mean 'max-size'?"),
        ("Store", "did you mean 'store'?"),
        ("maxsize", "did you mean 'max-size'?"),
        ("listener", "did you mean 'listen'?"),
        ("xyz", "known are store, listen, max-size"),
    ],
)
def test_an_unknown_key_is_refused_with_a_guess_or_the_known_ones(
    tmp_path: Path, key: str, hint: str
) -> None:
    file = write(tmp_path, f"\n{key} = 1")
    with pytest.raises(ConfigError) as caught:
        load_config(file=file, environment={})
    assert str(caught.value).startswith(f"{file}:2: unknown key {key!r}; ")
    assert hint in str(caught.value)


def test_a_table_is_an_unknown_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key 'daemon'"):
        load_config(file=write(tmp_path, "[daemon]\nstore = '/a'"), environment={})


@pytest.mark.parametrize(
    "content",
    [
        b"store = ",
        b"a = 1\na = 2",
        b"\xff",
        b"store = '/a'\x00",
        b"\xef\xbb\xbfstore='/a'",
        b"max-connections = " + b"1" * 5000,
        b"max-connections = 0x" + b"f" * 5000,
        b"max-put-rate = 0x" + b"f" * 5000,
    ],
)
def test_what_is_not_toml_names_the_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "kapla.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(file=str(file), environment={})
    assert str(caught.value).startswith((f"{file}: ", f"{file}:1: ", f"{file}:2: "))
    assert "\n" not in str(caught.value)
    assert "set_int_max_str_digits" not in str(caught.value)


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.toml")
    for arguments in ({"file": missing}, {"environment": {"KAPLA_CONFIG": missing}}):
        with pytest.raises(ConfigError, match=r"cannot read .*missing\.toml: No such file"):
            load_config(**{"environment": {}, **arguments})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"cannot read .*: Is a directory"):
        load_config(file=str(tmp_path), environment={})


def test_messages_hold_no_store_path_and_no_user_name() -> None:
    # A store's path may act as a capability, and a URL may hold a password.
    for url in (
        "coap+tcp://h/s3cret-capability",
        "coap+tcp://user:s3cret@h",
        "coap+unix:///a?s3cret",
        "coap+tcp://h:s3cret",
        "s3cret",
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(listen=(url,), environment={})
        assert "s3cret" not in str(caught.value)
        assert caught.value.__cause__ is None


# --- who asks ------------------------------------------------------------------------------


def test_a_store_has_at_least_a_mebibyte() -> None:
    with pytest.raises(ConfigError, match="at least 1 MiB"):
        load_config(environment={"KAPLA_MAX_SIZE": "1024"})


def test_is_root_looks_at_the_effective_user(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not config_module.is_root()
    become(monkeypatch, 0)
    assert config_module.is_root()
