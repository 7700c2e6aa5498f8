"""Tests of `guix_glue.publish`."""
