# A tenant that has all it wants saves up without bound.
# file coordinator/engine/batch.c
s/    group->tag_floor = rmk_most(group->tag_floor, tag);/    (void)tag;/
