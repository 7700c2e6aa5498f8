"""A store in a file, used by a client without a daemon."""

from kapla.file_store.store import FileStore

__all__ = ["FileStore"]
