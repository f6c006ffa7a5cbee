# A round counts the positions of its last row only.
# file coordinator/engine/batch.c
s/positions += ride.positions;/positions = ride.positions;/
