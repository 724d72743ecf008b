"""The target: a transformers model that verifies pieces of draft trees, and its exits. It needs torch."""
