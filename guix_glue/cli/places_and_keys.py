"""Where the Guix of this machine has its things, and whose word counts, for `kapla substitute`.

What is wrong must not end a query of the Guix daemon: then no key is authorized, with a warning.
"""

from __future__ import annotations

import os

from guix_glue.errors import GuixError
from guix_glue.fetch.traces import Messages
from guix_glue.formats.expression import Expression
from guix_glue.local.environment import GuixEnvironment
from guix_glue.local.files import read_file
from guix_glue.trust.acl import LARGEST_ACL, Acl
from guix_glue.trust.keys import LARGEST_KEY, parse_public_key

__all__ = ["read_places"]


def read_places(messages: Messages) -> tuple[GuixEnvironment, Acl]:
    """Where this machine keeps its store, and the keys that may vouch for items."""
    try:
        where = GuixEnvironment.from_environ(os.environ)
    except GuixError as error:
        # It may be about the place of the keys; and elsewhere there may be other ones.
        messages.warn(f"no key is authorized: {error}")
        return GuixEnvironment(), Acl()
    return where, _read_acl(f"{where.config_dir}/acl", messages)


def _read_acl(path: str, messages: Messages) -> Acl:
    """The keys that may vouch for items. No list is an empty list, and none is ever made."""
    try:
        acl = Acl.parse(read_file(path, LARGEST_ACL))
        if acl.remark is not None:
            messages.warn(f"{path}: {acl.remark}")
        if acl.keys <= _own_keys(f"{os.path.dirname(path)}/signing-key.pub"):
            # What `guix archive --generate-key` leaves. The words are those of the stock command.
            messages.warn(
                "ACL for archive imports seems to be uninitialized, substitutes may be unavailable"
            )
        return acl
    except FileNotFoundError:
        messages.warn(f"no key is authorized, so that there are no substitutes: there is no {path}")
    except OSError as error:
        messages.warn(f"no key is authorized: {path} cannot be read: {error.strerror}")
    except GuixError as error:
        messages.warn(f"no key is authorized: {path} cannot be understood: {error}")
    return Acl()


def _own_keys(path: str) -> frozenset[Expression]:
    """This machine's own key, which vouches for nothing that others build."""
    try:
        return frozenset({parse_public_key(read_file(path, LARGEST_KEY)).to_expression()})
    except (OSError, GuixError):
        return frozenset()
