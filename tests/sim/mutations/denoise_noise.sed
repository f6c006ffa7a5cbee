# Two forwards draw the same random numbers.
# file coordinator/engine/denoise.c
s/bits = rmk_prng_splitmix(bits, forward);/bits = rmk_prng_splitmix(bits, forward \/ 2);/
