"""Losses that compare two views of a batch of objects, one a file."""
