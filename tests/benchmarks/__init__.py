"""Tests of the stages on which Kapla is measured."""
