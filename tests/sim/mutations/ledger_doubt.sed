# Closes of a plan that failed are taken to have happened.
# file coordinator/engine/ledger.c
s/group->slots\[slot\].dirty = true;.*//
