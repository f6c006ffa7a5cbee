# Tenants take turns, whatever their rows cost.
# file coordinator/engine/batch.c
s/share->tag += share->last;/share->tag += 1;/
