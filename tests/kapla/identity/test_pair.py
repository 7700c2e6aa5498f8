from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kapla.errors import ConfigError
from kapla.identity import pair as pair_module
from kapla.identity import place
from kapla.identity.key import PeerKey
from kapla.identity.pair import KeyPair, default_path, load, load_or_make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "kapla" / "identity.pem"


# --- where it is ------------------------------------------------------------------------------


@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/k"}, "/var/lib/k/identity.pem"),
        ({"STATE_DIRECTORY": "/a:/b", "XDG_STATE_HOME": "/c"}, "/a/identity.pem"),
        ({"XDG_STATE_HOME": "/c"}, "/c/kapla/identity.pem"),
    ],
)
def test_a_directory_that_is_named_counts_for_everybody(
    monkeypatch: pytest.MonkeyPatch, root: bool, environment: dict[str, str], expected: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
    assert default_path(environment) == Path(expected)


def test_else_root_has_the_systems_and_others_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_path({}) == Path("/var/lib/kapla/identity.pem")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert default_path({}) == Path("/home/somebody/.local/state/kapla/identity.pem")


@pytest.mark.parametrize("variable", ["STATE_DIRECTORY", "XDG_STATE_HOME"])
def test_a_relative_directory_is_an_error(variable: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        default_path({variable: "here"})


def test_without_a_home_there_is_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(place, "user_path", lambda kind, name: None)
    with pytest.raises(ConfigError, match="no home"):
        default_path({})


# --- making it --------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o277])
def test_it_is_made_for_its_owner_alone_and_found_again(path: Path, umask: int) -> None:
    path.parent.mkdir(parents=True)
    before = os.umask(umask)
    try:
        made = load_or_make(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [path.name]
    assert load_or_make(path).public == load(path).public == made.public


def test_its_directory_is_for_its_owner_alone(path: Path) -> None:
    load_or_make(path)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_each_is_another(tmp_path: Path) -> None:
    keys = {load_or_make(tmp_path / str(number)).public for number in range(3)}
    assert len(keys) == 3


def test_the_usual_place_is_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    assert load_or_make().public == load(tmp_path / "identity.pem").public


def test_two_that_start_at_once_have_one_key(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from kapla.identity.pair import load_or_make\n"
        "print('ready', flush=True); sys.stdin.read()\n"
        "print(load_or_make(Path(sys.argv[1])).public)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
    keys = set()
    for process in started:
        assert process.stdout is not None
        keys.add(process.stdout.read())
        assert process.wait(30) == 0
        process.stdout.close()
    assert len(keys) == 1
    assert PeerKey.parse(keys.pop().strip()) == load(path).public


def test_who_comes_second_takes_what_the_first_made(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    make = pair_module._make

    def make_after_another(at: Path) -> None:
        make(at)
        first.append(load(at).public)
        make(at)

    first: list[PeerKey] = []
    monkeypatch.setattr(pair_module, "_make", make_after_another)
    assert load_or_make(path).public == first[0]
    assert os.listdir(path.parent) == [path.name]


def test_what_openssl_reads(path: Path) -> None:
    pair = load_or_make(path)
    shown = subprocess.run(
        ["openssl", "pkey", "-in", path, "-pubout", "-outform", "DER"],
        capture_output=True,
        check=True,
        timeout=30,
    ).stdout
    assert shown.endswith(pair.public.data)


# --- what is refused --------------------------------------------------------------------------


def _others_may_read(path: Path) -> None:
    path.chmod(0o640)


def _others_may_write(path: Path) -> None:
    path.chmod(0o602)


def _symlink(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir(0o700)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def _noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 64)


def _altered(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"MC4CAQAw", b"MC4CAQBw"))


def _longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n" * 5000)


def _another_kind(path: Path) -> None:
    key = generate_private_key(SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _encrypted(path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

    encryption = BestAvailableEncryption(b"x")
    private = KeyPair.generate().private
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_others_may_read, "others may read"),
        (_others_may_write, "others may read or change"),
        (_symlink, "symbolic link"),
        (_dangling, "symbolic link"),
        (_pipe, "no regular file"),
        (_directory, "no regular file"),
        (_empty, "damaged"),
        (_cut_off, "damaged"),
        (_noise, "damaged"),
        (_altered, "damaged"),
        (_longer, "damaged|another key"),
        (_another_kind, "another key than one of Ed25519"),
        (_encrypted, "damaged|encrypted"),
    ],
)
def test_what_is_not_as_it_should_be_is_told_and_left_alone(
    path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    load_or_make(path)
    spoil(path)
    before = path.lstat()
    for read in (load_or_make, load):
        with pytest.raises(ConfigError, match=reason) as raised:
            read(path)
        assert str(path) in str(raised.value)
    assert path.lstat().st_mtime_ns == before.st_mtime_ns
    assert path.lstat().st_ino == before.st_ino


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_somebody_elses_is_not_used(path: Path) -> None:
    load_or_make(path)
    os.chown(path, 12345, -1)
    with pytest.raises(ConfigError, match="another user"):
        load_or_make(path)


def test_where_nothing_can_be_made_that_is_told(path: Path) -> None:
    path.parent.parent.mkdir()
    path.parent.write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot use the key pair"):
        load_or_make(path)


def test_load_makes_nothing(path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(path)
    assert not path.parent.exists()


# --- what is shown ----------------------------------------------------------------------------


def test_a_pair_shows_its_public_key_only(path: Path) -> None:
    pair = load_or_make(path)
    secret = pair.private.private_bytes_raw()
    body = path.read_text().splitlines()[1]
    for shown in (repr(pair), str(pair), f"{[pair]}"):
        assert str(pair.public) in shown
        assert secret.hex() not in shown
        assert repr(secret) not in shown
        assert body not in shown
        assert "PrivateKey" not in shown
