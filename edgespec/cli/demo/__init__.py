"""`edgespec demo`: a server, an emulated link and an edge on one machine, paced; what speculation gains."""
