"""What a server shows of itself: figures, tables and metrics made out of facts. Pure."""
