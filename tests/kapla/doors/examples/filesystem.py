"""`eris://` for fsspec."""

import csv

import fsspec

from kapla.doors.sync import open_store

with open_store() as store:
    urn = store.put_tree("tables").to_urn()

with fsspec.open("eris://people.csv", "rt", urn=urn) as file:
    people = list(csv.DictReader(file))

assert people == [{"name": "Ada", "born": "1815"}]

fs = fsspec.filesystem("eris", urn=urn)
print(fs.ls("", detail=False))
print(fs.glob("**/*.csv"))
head = fs.cat_file("people.csv", end=4)
fs.get("people.csv", "copy.csv")

assert head == b"name"
