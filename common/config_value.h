/* The text of one flag made into its value. Part of config.c. */
#ifndef RMK_COMMON_CONFIG_VALUE_H
#define RMK_COMMON_CONFIG_VALUE_H

#include "common/config.h"

/* Store `text` in the flag's target. Texts are borrowed. Errors: RMK_EINVAL; the sentence gives
 * what was written and what is allowed, not the flag's name. */
enum rmk_err rmk_config_value_set(struct rmk_config_flag *flag, const char *text,
                                  struct rmk_why *why);

/* 0, false, NULL, empty. */
void rmk_config_value_clear(struct rmk_config_flag *flag);

#endif
