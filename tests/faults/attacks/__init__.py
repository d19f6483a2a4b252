"""What hostile and broken peers do to a server, a module for each kind."""
