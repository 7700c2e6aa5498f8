"""What is in packaging/: units that systemd takes and finds tight, and a package that fits them."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kapla.urls import UnixEndpoint, parse_store_url

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGING = REPOSITORY / "packaging"
DEBIAN = PACKAGING / "debian"
SYSTEM = (
    "kaplad.service",
    "kaplad.socket",
    "kapla-publish.service",
    "kapla-seed.service",
    "kapla-proxy.service",
)
SERVICES = [unit for unit in SYSTEM if unit.endswith(".service")]
USER = ("user/kaplad.service", "user/kaplad.socket")
EXPOSURE = 2.0


def section(unit: str, name: str) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(PACKAGING / unit)
    return parser[name]


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name}")
    return found


def run(*command: str, **environment: str) -> str:
    """What a program says, which must succeed."""
    done = subprocess.run(
        command,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done
    return done.stdout + done.stderr


@pytest.mark.parametrize("unit", SERVICES)
def test_a_service_is_exposed_to_little(unit: str) -> None:
    said = run(program("systemd-analyze"), "security", "--offline=true", str(PACKAGING / unit))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= EXPOSURE, said


@pytest.mark.parametrize("units", [SYSTEM, USER])
def test_systemd_takes_the_units(units: tuple[str, ...], tmp_path: Path) -> None:
    copies = []
    for unit in units:
        # The program need not be installed here.
        text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", (PACKAGING / unit).read_text())
        copies.append(tmp_path / Path(unit).name)
        copies[-1].write_text(text)
    of_whom = ["--user"] if units is USER else []
    command = [program("systemd-analyze"), "verify", "--man=no", *of_whom, *map(str, copies)]
    assert run(*command, XDG_RUNTIME_DIR=str(tmp_path)) == ""


def test_the_socket_is_the_one_that_is_configured() -> None:
    listener = re.search(r'"(coap\+unix://.*)"', (PACKAGING / "kapla.toml").read_text())
    assert listener is not None
    url = parse_store_url(listener[1])
    socket = section("kaplad.socket", "Socket")
    assert url.endpoint == UnixEndpoint(Path(socket["ListenStream"]))
    assert url.flags.mode == int(socket["SocketMode"], 8)
    assert url.flags.group == socket["SocketGroup"]
    # Else it would go with the directory when the daemon stops.
    assert section("kaplad.service", "Service")["RuntimeDirectoryPreserve"] == "yes"


def test_a_wrong_configuration_is_not_tried_again() -> None:
    for unit in (*SERVICES, "user/kaplad.service"):
        assert "2" in section(unit, "Service")["RestartPreventExitStatus"].split()


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_the_scripts_of_the_package_are_sound(name: str) -> None:
    path = DEBIAN / name
    assert path.stat().st_mode & 0o111 == 0o111
    run(program("sh"), "-n", str(path))
    # None of these does anything for what it does not know.
    run(program("sh"), str(path), "failed-upgrade" if name != "postrm" else "upgrade")


def test_the_package_says_what_it_needs() -> None:
    control = (DEBIAN / "control").read_text()
    fields = dict(re.findall(r"^([\w-]+): (.*)$", control, re.MULTILINE))
    assert fields["Package"] == "kapla"
    assert {"Version", "Architecture", "Maintainer", "Depends", "Description"} <= fields.keys()
    marks = set(re.findall(r"@(\w+)@", control))
    made = (REPOSITORY / "tools" / "make_deb.sh").read_text()
    assert marks == set(re.findall(r"s/@(\w+)@/", made))


def test_the_settings_are_the_administrators() -> None:
    conffiles = (DEBIAN / "conffiles").read_text().split()
    made = (REPOSITORY / "tools" / "make_deb.sh").read_text()
    assert conffiles == re.findall(r"put \d+ \S+ (/etc/\S+)", made)


def test_only_a_purge_takes_the_store() -> None:
    script = (DEBIAN / "postrm").read_text()
    removing, purging = script.split("    purge)")
    assert "/var/lib/kapla" not in removing.split("case $1 in")[1]
    assert "rm -rf /var/lib/kapla" in purging


# `#~` and its like are of Guix, which need not be here.
READING = """
(for-each (lambda (mark)
            (read-hash-extend mark (lambda (_ port)
                                     (when (eqv? (peek-char port) #\\@) (read-char port))
                                     (list 'gexp (read port)))))
          '(#\\~ #\\$ #\\+))
(for-each (lambda (file)
            (let ((port (open-input-file file)))
              (let read-on ()
                (unless (eof-object? (read port)) (read-on)))))
          (cdr (command-line)))
"""


def test_what_is_for_guix_can_be_read() -> None:
    files = [REPOSITORY / "guix.scm", *sorted((PACKAGING / "guix").rglob("*.scm"))]
    assert len(files) >= 4
    run(program("guile"), "--no-auto-compile", "-c", READING, *map(str, files))


def test_the_package_of_guix_has_all_that_is_needed() -> None:
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    needed = re.findall(r"(?m)^ *([\w.-]+) *>=", setup["options"]["install_requires"])
    named = re.findall(r'"python-([\w-]+)"', (PACKAGING / "guix" / "package.scm").read_text())
    assert {name.lower().replace(".", "-") for name in needed} == set(named) - {
        "setuptools",
        "wheel",
        # Of a variant.
        "psycopg",
    }
    version = f'(version "{setup["metadata"]["version"]}")'
    assert version in (PACKAGING / "guix" / "package.scm").read_text()
