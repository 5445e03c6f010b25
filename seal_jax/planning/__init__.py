"""What a run will cost, before it is paid for: memory, time and chips of every program of a round.

Programs are compiled for devices that may not be there, from shapes alone: no weights are read.
"""
