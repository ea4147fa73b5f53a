"""Networks that turn a jet's constituents into one vector."""
