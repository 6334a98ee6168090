"""Other readers, each a script for an environment of its own; `install` makes these."""
