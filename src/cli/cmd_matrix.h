/* cmd_matrix.h - the parts of `distill matrix` that begin with a word of their own; cmd_matrix.c calls them. */
#ifndef DISTILL_CLI_CMD_MATRIX_H
#define DISTILL_CLI_CMD_MATRIX_H

#include "cli/cli.h"

status cmd_matrix_pack(cli *c);   /* pack RUN_DIR --for TARGET [--out FILE] */
status cmd_matrix_merge(cli *c);  /* merge RUN_DIR RESULT.json */
status cmd_matrix_bisect(cli *c); /* bisect RUN_DIR RUNTIME/VARIANT */
status cmd_matrix_history(cli *c); /* history RUN_DIR RUNTIME/VARIANT */

#endif
