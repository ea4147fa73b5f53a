"""Events of other programs: generators that write HepMC3, detectors that write ROOT."""
