"""docs/tutorials/python.md, "When something is wrong"."""

import asyncio

import eris


async def read(store: eris.BlockReader, urn: str) -> bytes | None:
    try:
        return await eris.get_content(store, eris.ReadCapability.from_urn(urn))
    except eris.InvalidCapability as error:
        print(f"this is no URN: {error}")
    except eris.BlockNotFound as error:
        print(f"this store lacks it, another may have it: {error}")
    except eris.ContentError as error:
        print(f"the blocks are wrong, and will be next time: {error}")
    except eris.StoreUnavailable as error:
        print(f"no answer, try again later: {error}")
    return None


async def main() -> None:
    capability, blocks = eris.encode(b"Hail ERIS!")
    assert await read(eris.MemoryStore(blocks.values()), capability.to_urn()) == b"Hail ERIS!"
    assert await read(eris.MemoryStore(), capability.to_urn()) is None
    assert await read(eris.MemoryStore(), "urn:eris:AAAA") is None


asyncio.run(main())
