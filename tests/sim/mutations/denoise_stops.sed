# Once a stop was found, every stop string is still looked for.
# file coordinator/engine/denoise.c
/^void rmk_denoise_scan_stops/,/^}/s/if (\*found) {/if (false) {/
