"""The substitute server: store items as narinfos and nars over HTTP, with their ERIS URNs.

`routes` reads a request's path, a source (`local_source`, `mirror_source`) says what is known of an
item, `site` makes the reply, `http_server` sends it. Behind them a `queue` of jobs bakes items into
the `cache`: compressed nars, and the item as an ERIS-FS tree in the store that it was handed.
"""
