"""Sequences of the Open Inference door: sessions that are told apart by a model and an id, and have no stream."""
