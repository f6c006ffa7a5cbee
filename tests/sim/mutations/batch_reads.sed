# Reads have no budget.
# file coordinator/engine/batch.c
s/ride.read_count <= group->reads_max - reads/true/
