"""How a draft model becomes an engine folder, and what such a folder says of itself."""
