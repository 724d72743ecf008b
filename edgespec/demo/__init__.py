"""`edgespec demo`: a server, an emulated link and an edge on one machine, with paced engines; what speculation gains."""
