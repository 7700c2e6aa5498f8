"""Checks any store that speaks ERIS over CoAP on a stream, from the outside, byte by byte."""
