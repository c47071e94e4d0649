"""Many rows at a time: a version's trees by a kernel of ours, everything else by ONNX Runtime."""
