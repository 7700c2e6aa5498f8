"""README.md, "In Python", the synchronous door."""

from pathlib import Path

from kapla.doors.sync import open_store

Path("notes").mkdir(exist_ok=True)
Path("notes/guide.txt").write_text("first\nsecond\n")

with open_store() as store:
    capability = store.put_content(b"Hail ERIS!")
    content = store.get_content(capability)

    tree = store.put_tree("notes")
    with store.open(tree, "guide.txt") as file:
        first = file.readline()

print(content, first)

assert (content, first) == (b"Hail ERIS!", b"first\n")
