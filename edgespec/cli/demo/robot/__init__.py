"""`edgespec demo --robot`: a simulated robot drives in every mode, over a good, a lossy and a broken link."""
