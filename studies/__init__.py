"""Studies: what costs hours and fills results/, with the public functions."""
