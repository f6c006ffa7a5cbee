# A group comes up again under the epoch that has ended.
# file coordinator/engine/fleet.c
/^bool rmk_fleet_group_up/,/^}/s/event->epoch <= group->epoch/event->epoch < group->epoch/
