"""A target that llama.cpp runs, from a GGUF file."""
