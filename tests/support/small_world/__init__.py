"""A small world of the protocol: one session id, a server with its store, clients, a bad network.

The server and the clients decide by the functions of `tidegate.protocol` and do nothing else of their
own; a model whose state is the tuple of its inputs makes every wrong answer visible.
"""
