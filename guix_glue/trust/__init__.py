"""Keys, and what is believed because of them. No module here does I/O."""
