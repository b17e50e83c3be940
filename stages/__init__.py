"""The stages, in the order of a whole run; each module's STAGE is its declaration."""
