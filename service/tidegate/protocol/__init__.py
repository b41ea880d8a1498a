"""The rules of sessions and steps: no I/O, no clock; shared by the server and the client."""
