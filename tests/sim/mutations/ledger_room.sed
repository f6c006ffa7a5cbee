# Key and value rows are never given back.
# file coordinator/engine/ledger.c
s/group->kv_held -= request->kv_rows;//
