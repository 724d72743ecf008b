"""The server: who may come in, whose rows go into the next forward, and what an operator sees."""
