"""Manual pages, written from what the commands and settings say of themselves.

`python -m kapla.cli.manual man OUTDIR` writes them all, for who packages Kapla, and
`python -m kapla.cli.manual completions bash|zsh|fish OUTDIR` what shells complete by.
"""
