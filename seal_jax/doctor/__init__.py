"""`seal doctor`: whether a machine computes what the CPU computes, and how fast it is at it."""
