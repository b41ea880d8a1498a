"""How good a package's forecasts are, streamed through the engine that serves it; needs no PyTorch."""
