# leave is given though somebody waits
# file coordinator/engine/rounds.c
s/engine->queue.count == 0 ? engine->limits.ahead_max : 1/engine->limits.ahead_max/
