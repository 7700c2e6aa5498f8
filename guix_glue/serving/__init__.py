"""How servers of ours answer over HTTP, whatever they serve: the publisher and the proxy."""
