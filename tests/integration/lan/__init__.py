"""Local networks made of namespaces, and strangers on them."""
