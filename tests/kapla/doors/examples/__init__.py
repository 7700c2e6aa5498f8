"""The examples of the documents: `test_examples.py` runs them, mypy reads them."""
