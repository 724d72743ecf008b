"""The draft tree and what both halves do with it: pure, no sockets, no models, no clock."""
