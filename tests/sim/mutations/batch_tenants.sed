# A tenant with more residents gets more.
# file coordinator/engine/batch.c
s/    if (a->tenant == b->tenant) {/    if (a->due_work != b->due_work) {/
