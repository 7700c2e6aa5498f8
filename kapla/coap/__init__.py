"""CoAP: the wire between a store and its clients."""
