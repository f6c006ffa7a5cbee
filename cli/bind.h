/* A child that dies with its parent, whatever program it is: `remask up` starts
 *
 *     remask exec-bound PARENT PROGRAM ARGUMENTS…
 *
 * which asks the kernel for SIGTERM at the parent's death and becomes PROGRAM: the wish survives
 * exec.
 */
#ifndef RMK_CLI_BIND_H
#define RMK_CLI_BIND_H

#define RMK_BIND_COMMAND "exec-bound"

/* Does not return when it works. */
int rmk_bind_run(int argc, char **argv);

#endif
