"""The client library, asynchronous and synchronous."""
