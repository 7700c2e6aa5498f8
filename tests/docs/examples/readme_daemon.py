"""README.md, "In Python": a daemon as a store. Not run, as it names a socket of its own."""

import eris


async def main() -> eris.ReadCapability:
    from kapla.client import RemoteStore

    async with RemoteStore("coap+unix:///run/user/1000/eris.sock") as store:
        capability = await eris.put_content(store, b"Hail ERIS!")

    return capability
