"""What readers of a data set of sparse images call its records."""

from resim.lane import Names

NAMES = Names("images", "voxels")
