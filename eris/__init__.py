"""ERIS: the Encoding for Robust Immutable Storage, version 1.0.0.

Content becomes uniformly sized, encrypted, content-addressed blocks that anybody may keep and pass
on, and one read capability that makes them content again.

In memory:

```python
capability, blocks = eris.encode(b"Hail ERIS!")
content = eris.decode(capability, blocks)
```

Over a store, from bytes or a file object:

```python
store = eris.MemoryStore()
capability = await eris.put_content(store, open("photo.jpg", "rb"))
content = await eris.get_content(store, capability)
```
"""

from typing import TYPE_CHECKING

from eris.capability import ReadCapability, format_block_urn
from eris.crypto import reference_of
from eris.decode import Decoder, decode
from eris.encode import Encoder, encode
from eris.errors import (
    BlockNotFound,
    ContentError,
    CorruptBlock,
    ErisError,
    InvalidBundle,
    InvalidCapability,
    InvalidKey,
    InvalidNode,
    InvalidPadding,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
)
from eris.lazy import reexport
from eris.model import (
    BlockSize,
    ConvergenceSecret,
    EncodedBlock,
    Hole,
    Key,
    Reference,
    ReferenceKeyPair,
    choose_block_size,
)
from eris.store import (
    BlockFinder,
    BlockReader,
    BlockWriter,
    ManyWriter,
    MemoryStore,
    NullStore,
)

if TYPE_CHECKING:
    from eris.sizing import content_size, content_sizes, stream_sizes
    from eris.transfer import (
        check_content,
        content_length,
        get_content,
        put_content,
        read_content,
        stream_content,
    )
else:
    # Loaded when it is used: a command shows its help without.
    __getattr__ = reexport(
        __name__,
        {
            "sizing": ("content_size", "content_sizes", "stream_sizes"),
            "transfer": (
                "check_content",
                "content_length",
                "get_content",
                "put_content",
                "read_content",
                "stream_content",
            ),
        },
    )

__all__ = [
    "BlockFinder",
    "BlockNotFound",
    "BlockReader",
    "BlockSize",
    "BlockWriter",
    "ContentError",
    "ConvergenceSecret",
    "CorruptBlock",
    "Decoder",
    "EncodedBlock",
    "Encoder",
    "ErisError",
    "Hole",
    "InvalidBundle",
    "InvalidCapability",
    "InvalidKey",
    "InvalidNode",
    "InvalidPadding",
    "Key",
    "ManyWriter",
    "MemoryStore",
    "NullStore",
    "ReadCapability",
    "Reference",
    "ReferenceKeyPair",
    "StoreError",
    "StoreFull",
    "StoreRefused",
    "StoreUnavailable",
    "check_content",
    "choose_block_size",
    "content_length",
    "content_size",
    "content_sizes",
    "decode",
    "encode",
    "format_block_urn",
    "get_content",
    "put_content",
    "read_content",
    "reference_of",
    "stream_content",
    "stream_sizes",
]


def __dir__() -> list[str]:
    return __all__
