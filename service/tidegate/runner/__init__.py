"""Running models: ONNX Runtime, the arena of states, the probe, the float64 reference."""
