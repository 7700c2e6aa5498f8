"""Tests of `kapla.status`."""
