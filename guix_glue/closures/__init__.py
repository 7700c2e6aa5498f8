"""Items with all they refer to, without a server: into blocks, and out of them into archives."""
