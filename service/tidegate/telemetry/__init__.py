"""What an operator can see: metrics and the log's shape."""
