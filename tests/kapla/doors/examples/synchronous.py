"""The synchronous door."""

import zipfile

from kapla.doors.sync import open_store

with open_store() as store:
    capability = store.put_content(b"Hail ERIS!")
    content = store.get_content(capability)

    tree = store.put_tree("notes")
    with store.open(tree, "guide.txt") as file:
        first = file.readline()

assert content == b"Hail ERIS!"
assert first == b"the first line\n"

with open_store() as store:
    with open("photos.zip", "rb") as source:
        urn = store.put_content(source).to_urn()

    with store.open(urn) as file, zipfile.ZipFile(file) as photos:
        names = photos.namelist()
        cat = photos.read("cat.jpg")

assert names == ["cat.jpg"]
assert cat == b"meow"

with open_store() as store:
    tree = store.put_tree("notes", packed=True)
    for entry in store.entries(tree):
        print(entry.kind.value, entry.name, entry.size)
    print(store.info(tree, "docs/large.bin").size)
    store.get_tree(tree, "copy")  # "copy" must not exist
