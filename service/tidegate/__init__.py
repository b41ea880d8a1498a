"""tidegate serves recurrent models over gRPC, one time step at a time.

Import the client from `tidegate.client`; start a server with `tidegate serve`.
"""

__version__ = "0.1.0"
