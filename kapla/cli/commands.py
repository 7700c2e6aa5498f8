"""Which commands there are, and how one is found without loading the others.

Those installed with `kapla` are in a table, with the line that `kapla --help` shows of each: to
read the entry points of all that is installed takes longer than many a command. Other packages'
commands are entry points of the group `kapla.commands`; these are looked for where the table ends.
Tests compare the table with the commands and with the entry points in `setup.cfg`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["GROUP", "OWN", "Own", "load", "others"]

GROUP: Final = "kapla.commands"


class Own(NamedTuple):
    """A command that is installed with `kapla`."""

    module: str
    """Where it is, as `command`."""
    short_help: str


OWN: Final = {
    "backup": Own("kapla.cli.backup", "Copy the whole store to a file, while it is used."),
    "cat": Own("kapla.cli.cat", "Write one file of a tree to standard output."),
    "completion": Own("kapla.cli.completion", "Print what makes a shell complete kapla."),
    "config": Own("kapla.cli.config", "Make, check and show the daemon's settings."),
    "conformance": Own("kapla.cli.conformance", "Check how a store speaks ERIS over CoAP."),
    "copy": Own("kapla.cli.copy", "Copy contents from one store to another."),
    "decode": Own("kapla.cli.decode", "Decode the file or tree of a URN."),
    "diff": Own("kapla.cli.diff", "Show what differs between two trees."),
    "doctor": Own("kapla.cli.doctor.command", "Find the usual troubles, and how to mend each."),
    "encode": Own("kapla.cli.encode", "Encode a file or a tree; print its URN."),
    "explain": Own("kapla.cli.explain", "Show the blocks of a content, and where they are."),
    "export": Own("kapla.cli.export", "Write contents into a file, as a bundle of blocks."),
    "forget": Own("kapla.cli.forget", "Take something out of the catalogue."),
    "import": Own("kapla.cli.import_bundle", "Put the blocks of a bundle into the store."),
    "info": Own("kapla.cli.info", "Show kind, size and blocks of a content."),
    "lend": Own("kapla.cli.lend", "Let the daemon give pinned contents to others."),
    "link": Own("kapla.cli.link", "Write a URN into a link file."),
    "list": Own("kapla.cli.list", "List what you have stored."),
    "list-blocks": Own("kapla.cli.list_blocks", "Write a list of all that a store has."),
    "ls": Own("kapla.cli.ls", "List what is in a tree."),
    "manual": Own("kapla.cli.manual.command", "Show or write the manual pages."),
    "open": Own("kapla.cli.open", "Decode what a link file stands for."),
    "peers": Own("kapla.cli.peers", "Show the daemon's peers, and how each is."),
    "pin": Own("kapla.cli.pin", "Keep contents in the store for good."),
    "pins": Own("kapla.cli.pins", "List what is pinned in the store."),
    "scrub": Own("kapla.cli.scrub", "Have the daemon look at all that it stores."),
    "stat": Own("kapla.cli.stat", "Show what the daemon holds."),
    "store": Own("kapla.cli.migrate", "Move a whole store into a database, or back."),
    "top": Own("kapla.cli.top", "Watch what the daemon is doing."),
    "unpin": Own("kapla.cli.unpin", "Release pins: their contents may go."),
    "verify": Own("kapla.cli.verify", "Check that every block is there and sound."),
    "guix-daemon": Own(
        "guix_glue.cli.guix_daemon", "Start guix-daemon, with substitutes from blocks."
    ),
    "items": Own("guix_glue.cli.items", "Encode store items, and fetch them, without a server."),
    "map": Own("guix_glue.cli.map.command", "Make and read maps of items to URNs."),
    "proxy": Own("guix_glue.cli.proxy", "Pass on substitutes, out of blocks where they are."),
    "publish": Own("guix_glue.cli.publish", "Publish store items as substitutes, with URNs."),
    "seed": Own("guix_glue.cli.seed", "Give away files that are here, without a second copy."),
    "signing-key": Own("guix_glue.cli.signing_key", "Make signing keys, and authorize them."),
    "store-path": Own("guix_glue.cli.store_path", "Tell the store path of a file or a tree."),
    "substitute": Own("guix_glue.cli.substitute", "Fetch substitutes, for the Guix daemon."),
}


def load(name: str) -> object | None:
    """Load the command of this name; None if there is none.

    Raises: whatever another package's module does.
    """
    own = OWN.get(name)
    if own is not None:
        command: object = import_module(own.module).command
        return command
    entry = others().get(name)
    return None if entry is None else entry.load()


def others() -> dict[str, EntryPoint]:
    """The commands of other packages."""
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in OWN}
