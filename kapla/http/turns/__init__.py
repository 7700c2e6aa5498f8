"""The HTTP connections of the daemon: served in turn, beside those by CoAP."""
