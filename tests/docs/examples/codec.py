"""docs/tutorials/python.md, "In memory", and that of README.md."""

# ruff: noqa: E402
import eris

capability, blocks = eris.encode(b"Hail ERIS!")
print(capability)
print(len(blocks), "block")

urn = capability.to_urn()
again = eris.ReadCapability.from_urn(urn)
assert eris.decode(again, blocks) == b"Hail ERIS!"

import eris

capability, blocks = eris.encode(b"Hail ERIS!")
content = eris.decode(capability, blocks)

assert content == b"Hail ERIS!"
