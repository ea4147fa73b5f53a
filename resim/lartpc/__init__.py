"""Liquid-argon time projection chambers: particle gun, energy deposits, charge, pixel readout, voxels."""
