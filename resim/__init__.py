"""Generate events, cut the simulation after any stage, re-run what is downstream, and store the views."""
