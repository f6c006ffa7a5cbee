# the group is told once more what it has committed itself
# file coordinator/engine/rounds.c
/it has run this one on them/d
