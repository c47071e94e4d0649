"""Rows to version: search, evaluation, export to ONNX, the gate, and what a version is kept with."""
