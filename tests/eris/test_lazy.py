"""What packages re-export without loading it: the tables agree with what type checkers read."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent

every_package = pytest.mark.parametrize(
    "package", ["eris", "eris_fs", "guix_glue.formats.compression"]
)


def directory_of(package: str) -> Path:
    return REPOSITORY.joinpath(*package.split("."))


def tables_of(package: str) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """What the two halves of `if TYPE_CHECKING` name: modules, and what each is to provide."""
    tree = ast.parse((directory_of(package) / "__init__.py").read_text())
    (branch,) = (node for node in tree.body if isinstance(node, ast.If))
    checked = {
        str(node.module): {alias.name for alias in node.names}
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
    }
    (table,) = (
        node for node in ast.walk(ast.Module(branch.orelse, [])) if isinstance(node, ast.Dict)
    )
    loaded = {
        f"{package}.{module}": set(names) for module, names in ast.literal_eval(table).items()
    }
    return checked, loaded


@every_package
def test_type_checkers_see_what_is_loaded(package: str) -> None:
    checked, loaded = tables_of(package)
    assert checked == loaded


@every_package
def test_every_name_is_there_whichever_is_used_first(package: str) -> None:
    names = import_module(package).__all__
    script = (
        f"import sys, {package}\n"
        f"for name in sys.argv[1:]: getattr({package}, name)\n"
        f"from {package} import *\n"
        "for name in sys.argv[1:]: assert not type(globals()[name]).__name__ == 'module', name\n"
    )
    for order in (names, names[::-1]):
        subprocess.run([sys.executable, "-c", script, *order], check=True, timeout=60)


@every_package
def test_no_name_is_that_of_a_module_that_takes_its_place(package: str) -> None:
    _, loaded = tables_of(package)
    modules = {path.stem for path in directory_of(package).iterdir()}
    assert not modules & set().union(*loaded.values())


@every_package
def test_a_name_that_is_not_there(package: str) -> None:
    module = import_module(package)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        module.nonsense  # noqa: B018
    assert sorted(dir(module)) == sorted(module.__all__)
