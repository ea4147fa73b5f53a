"""What readers of a data set of jets call its records."""

from resim.lane import Names

NAMES = Names("jets", "constituents", vector="Momentum4D")
