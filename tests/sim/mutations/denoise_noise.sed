# Two forwards draw the same random numbers.
# file coordinator/engine/denoise.c
s/bits = mix(bits + (forward + 1) \* GOLDEN_RATIO);/bits = mix(bits + (forward \/ 2 + 1) * GOLDEN_RATIO);/
