"""`edgespec gpu-check`: what a GPU computes, and how fast, in a few minutes; small on a CPU, to test the check."""
