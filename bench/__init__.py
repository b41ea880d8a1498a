"""Measures tidegate against what the machine can do; README.md has the method and what each line means."""
