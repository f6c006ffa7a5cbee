# the last forward of a trace is forgotten
# file coordinator/engine/rounds.c
s/more \&\& fits \&\& i < result->ahead_count/more \&\& fits \&\& i + 1 < result->ahead_count/
