"""The engine of one model version, and the pool of loaded versions."""
