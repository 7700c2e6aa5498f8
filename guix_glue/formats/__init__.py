"""What Guix and Nix write down: bytes in, values out. No module here does I/O."""
