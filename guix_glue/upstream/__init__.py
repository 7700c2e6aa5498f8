"""Other substitute servers, asked for clients of ours: what they say, and what is kept of it."""
