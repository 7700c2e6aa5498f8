"""A file of settings to begin with: every key, explained, and left as it is by default. Pure."""

from __future__ import annotations

import textwrap
from typing import Final

from kapla.config.table import SETTINGS, Setting

__all__ = ["template"]

_WIDTH: Final = 92
_HEAD: Final = """\
# Settings of kaplad, in TOML. Lines that begin with # say nothing: remove that of a setting, and
# change its value. Flags and variables of the environment win over this file.
#
# kapla config check     says whether it is sound, and what is not
# kapla config show      lists what holds, and where each value comes from
"""


def template() -> str:
    """The whole text."""
    # Tables end the keys of a TOML file, so those of peers come last.
    ordered = sorted(SETTINGS, key=lambda setting: setting.field == "peers")
    return "\n".join([_HEAD, *map(_entry, ordered)])


def _entry(setting: Setting) -> str:
    read = "SIGHUP takes it over" if setting.reloads else "takes effect at a restart"
    text = f"{setting.about} Default: {setting.default}. ${setting.variable}; {read}."
    lines = [f"# {line}" for line in textwrap.wrap(text, _WIDTH, break_on_hyphens=False)]
    if setting.field == "peers":
        lines += ["#", "# [[peers]]", f'# url = "{setting.example}"', '# name = "attic"']
        lines += ['# rights = ["lend"]', '# max-rate = "10 MiB"']
    else:
        lines.append(f"# {setting.key} = {setting.example}")
    return "\n".join(lines) + "\n"
