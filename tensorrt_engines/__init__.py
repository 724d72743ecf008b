"""Draft engines: a model -> ONNX (draft_graph, export, parity), and the runtimes that run it (runtimes)."""
