"""Substitute servers, as the fetcher and a mirror of the publisher ask them."""
