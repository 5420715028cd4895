/* faults.h - what a file must have for a known fault of a runtime to be the reason why it comes out wrong there (runtimes.c names them). */
#ifndef DISTILL_MATRIX_FAULTS_H
#define DISTILL_MATRIX_FAULTS_H

#include "graph/graph.h"

/* Does a Concat's result become int8 (not uint8) codes and then a Conv's input, through nodes that have no other input than
 * constants? OpenVINO rounds the inputs of such a Concat to whole numbers (tools/runners/README.md). */
MUST_USE status faults_find_concat_conv(const graph *g, bool *found);

#endif
