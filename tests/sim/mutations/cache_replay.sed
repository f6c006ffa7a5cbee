# After a loss, windows go on from a base of the canvas as it is now.
# file coordinator/engine/canvas.c
/^struct rmk_cache_pass rmk_canvas_replay/,/^}/s/canvas->log_forward\[count\] < forward/count < canvas->log_count/
