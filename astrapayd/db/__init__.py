"""The database: tables, engine and queries. SQLite by default, PostgreSQL by its URL; the same code on both."""
