"""Settings of the daemon: what there are, where they come from, and whether they are sound."""

from kapla.config.load import Loaded, Sources, load, load_config
from kapla.config.model import Config
from kapla.config.problems import Misconfigured, Problem
from kapla.local_socket import SYSTEM_SOCKET, default_socket, is_root
from kapla.sizes import parse_size

__all__ = [
    "SYSTEM_SOCKET",
    "Config",
    "Loaded",
    "Misconfigured",
    "Problem",
    "Sources",
    "default_socket",
    "is_root",
    "load",
    "load_config",
    "parse_size",
]
