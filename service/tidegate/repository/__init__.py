"""The model repository: which versions a folder holds, and reading them."""
