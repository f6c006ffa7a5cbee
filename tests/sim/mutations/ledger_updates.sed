# What a row has been told counts up to now, not up to the forward that it runs again.
# file coordinator/engine/ledger.c
s/request->log_seen = ride.log_count;/request->log_seen = canvas->log_count;/
