# A new slot is taken to keep what the old one kept.
# file coordinator/engine/ledger.c
/^void rmk_ledger_take/,/^}/s/request->primed = false;//
