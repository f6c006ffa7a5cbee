#include "cli/bind.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "cli/cli.h"
#include "common/config.h"

/* REMASK_SEED or REMASK_CONFIG of whoever typed `remask up` are for that command: what its
 * processes get are flags. */
static void forget_own_variables(void)
{
    static const char prefix[] = "REMASK_";
    size_t i = 0;

    while (environ[i] != NULL) {
        const size_t size = strcspn(environ[i], "=");
        char name[256];

        if (strncmp(environ[i], prefix, sizeof(prefix) - 1) == 0 && size < sizeof(name)) {
            memcpy(name, environ[i], size);
            name[size] = '\0';
            if (unsetenv(name) == 0) {
                continue; /* the others have moved up */
            }
        }
        i++;
    }
}

int rmk_bind_run(int argc, char **argv)
{
    if (argc < 3) {
        (void)fprintf(stderr, "usage: remask " RMK_BIND_COMMAND " PARENT PROGRAM [ARGUMENTS]\n");
        return RMK_EXIT_USAGE;
    }
    const long parent = strtol(argv[1], NULL, 10);

    if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0) {
        (void)fprintf(stderr, "remask " RMK_BIND_COMMAND ": %s\n", strerror(errno));
        return RMK_EXIT_FAILURE;
    }
    if ((long)getppid() != parent) {
        return RMK_EXIT_FAILURE; /* it went before we asked */
    }
    forget_own_variables();
    (void)execv(argv[2], argv + 2);
    (void)fprintf(stderr, "remask: %s cannot be started: %s\n", argv[2], strerror(errno));
    return RMK_EXIT_CONFIG;
}
