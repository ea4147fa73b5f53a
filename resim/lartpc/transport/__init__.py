"""Compiled transport of particles in liquid argon."""
