"""Measurements beside a peer, in one run, as ratios. See README.md; never part of the tests."""
