"""Giving up root: after the private key is read and the sockets are bound."""

from __future__ import annotations

import os
import pwd

from guix_glue.errors import PublishError

__all__ = ["drop_privileges", "find_user"]


def find_user(name: str) -> pwd.struct_passwd:
    """Look up the user of the option --user.

    Raises: PublishError, if there is none, or if this process may not become another user.
    """
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise PublishError(f"--user: there is no user {name!r}") from None
    if os.geteuid() not in (0, user.pw_uid):
        raise PublishError(f"--user: only root can run as {name!r}")
    return user


def drop_privileges(user: pwd.struct_passwd) -> None:
    """Become this user, for good: with their groups and their home, real and saved ids included.

    Raises: PublishError.
    """
    if os.geteuid() == user.pw_uid:
        return
    try:
        # The order matters: once the user id is another, the groups can no longer be changed.
        os.initgroups(user.pw_name, user.pw_gid)
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    except OSError as error:
        raise PublishError(f"cannot become {user.pw_name}: {error.strerror}") from error
    if user.pw_uid != 0 and 0 in os.getresuid():
        raise PublishError(f"still root after becoming {user.pw_name}")
    os.environ.update(HOME=user.pw_dir, USER=user.pw_name, LOGNAME=user.pw_name)
