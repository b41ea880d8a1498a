"""The wire: the only server code that knows grpc."""
