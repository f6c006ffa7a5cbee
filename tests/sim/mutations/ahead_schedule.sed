# the group is not told how many masks its block began with
# file coordinator/engine/ahead.c
/\.block_masks = canvas->block_masks,/d
