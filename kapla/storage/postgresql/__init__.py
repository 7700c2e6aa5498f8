"""A store in a PostgreSQL database: any number of front ends may have it open at once."""
