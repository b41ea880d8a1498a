"""The Open Inference door: protocol v2 with Triton's sequences, for clients that know nothing of tidegate."""
