"""
The processes that serve associations: how the server's own process starts and
watches them and hands connections over to them, and what it and they say to
each other. What is served is none of this package's business.
"""
