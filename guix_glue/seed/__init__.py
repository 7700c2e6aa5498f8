"""Seeding: blocks are made again out of files that are here, when somebody asks for them."""
