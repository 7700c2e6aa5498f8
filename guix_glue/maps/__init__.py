"""Maps: which item is under which URN, by nobody's word.

`opened` makes a `Map` of what a user names: blocks, a file, a folder, a database, a server. `hints`
asks several of them. `contents` is a whole map, which `combining` joins and compares, `writing`
writes, and `building` makes by encoding items.
"""
