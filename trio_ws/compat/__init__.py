"""The names of other libraries over the objects of this one, so that what was written for them runs on it."""
