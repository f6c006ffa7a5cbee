# Among equal confidences the higher position wins.
# file coordinator/engine/denoise.c
s/return a->position < b->position;/return a->position > b->position;/
