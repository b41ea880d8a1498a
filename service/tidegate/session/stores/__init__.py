"""Where sessions outlive the process: one small interface, and the stores behind it."""
