"""The database: schema, connections and lease, the only writer (record), and the readers (known, history)."""
