"""Sessions: who they are, where they stand, and the steps that are asked of them."""
