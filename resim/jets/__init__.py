"""The jets lane: hard process, shower, hadronization, detector, jets."""
