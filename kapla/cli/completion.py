"""`kapla completion`: the script that makes a shell complete what is typed."""

from __future__ import annotations

import click

from kapla.cli.completing.scripts import SHELLS, script
from kapla.cli.streams import standard_output
from kapla.cli.told import told

__all__ = ["command"]


@told(
    ("Complete in this bash", 'eval "$(kapla completion bash)"'),
    (
        "In every bash from now on",
        "kapla completion bash > ~/.local/share/bash-completion/completions/kapla",
    ),
    (
        "In every zsh, where this directory is in $fpath",
        "kapla completion zsh > ~/.zfunc/_kapla",
    ),
    ("In every fish", "kapla completion fish > ~/.config/fish/completions/kapla.fish"),
)
@click.command(name="completion", short_help="Print what makes a shell complete kapla.")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print what makes a shell complete kapla: commands, options, files, @names, paths in trees.

    Paths in trees and names of pins are asked of the store, for a second at most. Packages of
    systems bring these scripts with them.
    """
    output = standard_output()
    output.write(script(shell).encode())
    output.flush()
