"""The index: PostgreSQL through txpostgres."""
