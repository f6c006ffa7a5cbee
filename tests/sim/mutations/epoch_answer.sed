# An answer of an earlier epoch is taken if its sequence fits.
# file coordinator/engine/rounds.c
s/if (!rmk_fleet_is_group(&engine->fleet, event->group, event->epoch) ||/if (!engine->fleet.groups[event->group].up ||/
