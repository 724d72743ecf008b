"""Who may come in: tokens, certificates, and where a server may listen."""
