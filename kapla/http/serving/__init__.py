"""HTTP connections of strangers: aiohttp's, bounded."""
