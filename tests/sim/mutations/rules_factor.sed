# The factor rule asks each one for what the next should have.
# file coordinator/engine/rules.c
s/((double)picked + 2.0)/((double)picked + 3.0)/
