#!/bin/sh
# Check the documents, make the site out of them, and check that. Usage: make_docs.sh PYTHON
set -eu
cd "$(dirname "$0")/.."
site=build/docs

"$1" tools/check_docs.py
# Made anew: of a page that is gone nothing should be left. All that Sphinx warns of is an error.
rm -rf "$site" build/docs-state
"$1" -m sphinx -W --keep-going -q -b html -c docs/site -d build/docs-state . "$site"
"$1" tools/check_site.py "$site"
