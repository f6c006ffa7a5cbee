/* remask: captions pictures, runs a local cluster, looks at clusters and checkpoints. */
#include "cli/cli.h"
#include "common/process.h"

int main(int argc, char **argv)
{
    rmk_process_init();
    return rmk_cli_run(argc, argv);
}
