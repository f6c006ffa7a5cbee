# A slot that was opened is not closed when its request leaves.
# file coordinator/engine/ledger.c
s/slot->dirty |= request->opened;//
