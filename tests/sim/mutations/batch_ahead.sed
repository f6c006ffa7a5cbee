# Whoever finds room rides along, however much its tenant has had.
# file coordinator/engine/batch.c
s/ && !is_ahead(group, &field, request, lead)//
