"""Many servers under Ray Serve: each replica is an edgespec server, and answers `POST /where` for itself."""
