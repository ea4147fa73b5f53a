"""Measurements too long or too noisy for tests. `python -m benchmarks` runs those that `make bench` reports."""
