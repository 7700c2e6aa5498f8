"""The local network: announcing services and finding them, and on which networks that counts."""
