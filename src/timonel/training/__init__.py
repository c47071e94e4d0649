"""Rows to version: search, evaluation, export to ONNX, the gate, the card."""
