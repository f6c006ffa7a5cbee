# a run crosses a refresh: who waits then waits for a whole forward more
# file coordinator/engine/ahead.c
s/return !canvas->pass.base;/return true;/
