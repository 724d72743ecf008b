"""The recipe of the driving pair: a small Qwen2-VL-shaped target that learns to see and answer, and drafts of it.

The encoder first learns what each cell of a picture shows and where it is (dense labels), then the target learns
whole answers. `edgespec train robot --minutes 120` runs all of it.
"""
