/* The command: `tare`, and `docker` where it is called so. It speaks the Engine API and nothing else. */
#pragma once

/* Runs the command line; the status to exit with. */
int cli_main(int argc, char **argv);
