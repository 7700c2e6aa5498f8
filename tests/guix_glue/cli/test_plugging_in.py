"""`kapla guix-daemon` and `kapla-guix` with programs of ours in the places of the real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAMS = Path(sys.executable).parent
# Says how it was called, and passes a line from descriptor 4 back to whoever holds it.
REPORT = """#!/bin/sh
echo "called $0 $*"
echo "GUIX=$GUIX"
echo "ERIS_STORE_URL=$ERIS_STORE_URL"
echo "KAPLA_REAL_GUIX=$KAPLA_REAL_GUIX"
echo "KAPLA_TRUST_HINTS=$KAPLA_TRUST_HINTS"
cat
[ -e /dev/fd/4 ] && echo reply >&4
exit 3
"""


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment in which both programs of Guix are on the path."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("guix", "guix-daemon"):
        (programs / name).write_text(REPORT)
        (programs / name).chmod(0o755)
    yield {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(tmp_path)}


def run(
    environment: dict[str, str], program: str, *arguments: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAMS / program, *arguments],
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def told(result: subprocess.CompletedProcess[str]) -> dict[str, str]:
    lines = [line for line in result.stdout.splitlines() if not line.startswith("called")]
    return dict(line.split("=", 1) for line in lines if "=" in line)


# --- kapla guix-daemon ------------------------------------------------------------------------


def test_the_daemon_gets_its_environment_and_all_its_options(installed: dict[str, str]) -> None:
    url = "coap+unix:///run/eris.sock"
    result = run(
        installed,
        "kapla",
        "guix-daemon",
        f"--eris-store-url={url}",
        "--build-users-group=guixbuild",
        "--max-jobs",
        "4",
        "--trust-hints",
        "--discover",
        "--no-substitutes",
    )
    assert result.returncode == 3
    programs = installed["PATH"].split(":")[0]
    assert result.stdout.splitlines()[0] == (
        f"called {programs}/guix-daemon"
        " --build-users-group=guixbuild --max-jobs 4 --discover --no-substitutes"
    )
    assert told(result) == {
        "GUIX": str(PROGRAMS / "kapla-guix"),
        "ERIS_STORE_URL": url,
        "KAPLA_REAL_GUIX": f"{programs}/guix",
        "KAPLA_TRUST_HINTS": "1",
    }


def test_what_is_set_already_stays(installed: dict[str, str], tmp_path: Path) -> None:
    url = "coap+tcp://[::1]:5683"
    given = {"ERIS_STORE_URL": url, "KAPLA_REAL_GUIX": str(tmp_path / "other")}
    found = told(run(installed | given, "kapla", "guix-daemon"))
    assert found["ERIS_STORE_URL"] == url
    assert found["KAPLA_REAL_GUIX"] == str(tmp_path / "other")
    assert found["KAPLA_TRUST_HINTS"] == ""


def test_several_stores_are_one_list(installed: dict[str, str]) -> None:
    arguments = [f"--eris-store-url=coap+tcp://[::1]:{port}" for port in (1, 2)]
    found = told(run(installed, "kapla", "guix-daemon", *arguments))
    assert found["ERIS_STORE_URL"] == "coap+tcp://[::1]:1 coap+tcp://[::1]:2"


def test_there_may_be_no_store(installed: dict[str, str]) -> None:
    found = told(run(installed, "kapla", "guix-daemon", "--eris-store-url=none"))
    assert found["ERIS_STORE_URL"] == "none"


def test_a_wrong_store_is_told_before_the_daemon_starts(installed: dict[str, str]) -> None:
    result = run(installed, "kapla", "guix-daemon", "--eris-store-url=ftp://secret")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("kapla: ")


def test_nothing_installed_is_one_line(tmp_path: Path) -> None:
    if any(Path(path, "guix").exists() for path in ("/usr/bin", "/usr/local/bin")):
        pytest.skip("Guix is installed on this machine")
    result = run({"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}, "kapla", "guix-daemon")
    assert result.returncode == 1
    assert result.stderr == "kapla: no guix is found; name it in $KAPLA_REAL_GUIX\n"


# --- kapla-guix -------------------------------------------------------------------------------

JOBS = [
    ["authenticate"],
    ["offload", "x86_64-linux", "3600", "1", "0"],
    ["gc", "--list-busy"],
    ["perform-download", "/gnu/store/x.drv", "/gnu/store/y"],
    ["discover"],
    [],
    ["--version"],
]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: "-".join(job[:1]) or "none")
def test_every_other_job_is_the_real_guix(installed: dict[str, str], job: list[str]) -> None:
    result = run(installed, "kapla-guix", *job, stdin="what the daemon says\n")
    programs = installed["PATH"].split(":")[0]
    assert result.returncode == 3
    assert result.stdout.splitlines()[0] == f"called {programs}/guix {' '.join(job)}"
    assert "what the daemon says" in result.stdout


def test_descriptor_4_goes_along(installed: dict[str, str], tmp_path: Path) -> None:
    replies = tmp_path / "replies"
    command = f'exec "{PROGRAMS / "kapla-guix"}" authenticate 4>"{replies}"'
    subprocess.run(["/bin/sh", "-c", command], env=installed, stdin=subprocess.DEVNULL, check=False)
    assert replies.read_text() == "reply\n"


def test_the_real_guix_may_be_named(installed: dict[str, str], tmp_path: Path) -> None:
    named = tmp_path / "named"
    named.write_text("#!/bin/sh\necho named\n")
    named.chmod(0o755)
    result = run(installed | {"KAPLA_REAL_GUIX": str(named)}, "kapla-guix", "gc")
    assert result.stdout == "named\n"


def test_it_never_calls_itself(installed: dict[str, str], tmp_path: Path) -> None:
    os.symlink(PROGRAMS / "kapla-guix", tmp_path / "guix")
    path = f"{tmp_path}:{installed['PATH']}"
    result = run(installed | {"PATH": path}, "kapla-guix", "gc")
    assert result.returncode == 3
    for name in (PROGRAMS / "kapla-guix", tmp_path / "guix"):
        result = run(installed | {"KAPLA_REAL_GUIX": str(name)}, "kapla-guix", "gc")
        assert result.returncode == 1
        assert "names this program itself" in result.stderr


@pytest.mark.parametrize("guix", ["missing", "not-executable"])
def test_a_guix_that_cannot_be_run_is_one_line(
    installed: dict[str, str], tmp_path: Path, guix: str
) -> None:
    (tmp_path / "not-executable").write_text("")
    result = run(installed | {"KAPLA_REAL_GUIX": str(tmp_path / guix)}, "kapla-guix", "gc")
    assert result.returncode == 1
    assert result.stderr.startswith(f"kapla-guix: {tmp_path / guix}: ")
    assert result.stderr.count("\n") == 1


def test_substitute_is_ours(installed: dict[str, str]) -> None:
    result = run(installed, "kapla-guix", "substitute", "--help")
    assert result.returncode == 0
    assert "substitutes" in result.stdout
    assert "called" not in result.stdout
