"""The SQLite store: schema, writes, read models. The one truth for state."""
