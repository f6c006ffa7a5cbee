# Clients that do not read ride along.
# file coordinator/engine/batch.c
s/ && !request->slow//
