# A refresh comes one forward late.
# file coordinator/engine/cache.c
s/place->forward - place->base >= options/place->forward - place->base > options/
