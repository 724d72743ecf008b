"""A target that vLLM runs, in this process and without a fork: chains of drafts, no hints."""
