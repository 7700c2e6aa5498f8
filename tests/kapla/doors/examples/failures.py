"""What can go wrong."""

from eris import BlockNotFound, StoreUnavailable, encode
from kapla.doors.sync import open_store

urn, _ = encode(b"nobody stored this")

try:
    with open_store() as store, store.open(urn, "guide.txt") as file:
        print(file.read())
except FileNotFoundError:
    print("the tree has no such file")
except BlockNotFound as error:
    print(f"the store does not have it: {error}")
except StoreUnavailable as error:
    print(f"the store cannot be reached: {error}")
