/* help_topics.c - `distill help matrix`, `distill help gate`: how to read and to use what these commands give. */
#include "cli/cli.h"
#include "matrix/matrix.h"

#include <string.h>

static void matrix_topic(text *out)
{
    static const char *const meaning[CELL_STATES] = {
        [CELL_OK] = "ran, and within its tolerance; a portable variant: the very same integers",
        [CELL_DIFFERS] = "ran, and what came out is wrong: too far off, not finite, another shape",
        [CELL_CRASH] = "the runner ended, ate its memory or spoke nonsense; its log is kept",
        [CELL_TIMEOUT] = "no answer within its time limit",
        [CELL_UNSUPPORTED] = "the runtime says that it cannot run this file, or reads no form of it",
        [CELL_NOT_RUN] = "the runtime is not on this machine; a pack can fill it on another"};
    text_add(out, "\nRows are runtimes (with version, processor and instructions), columns the variants of student and teacher.\n"
                  "Every cell is a child process of its own, judged against the same file in our executor:\n");
    for (int i = 0; i < CELL_STATES; i++)
        text_printf(out, "  %-13s %s\n", cell_state_name((cell_state)i), meaning[i]);
    text_add(out, "\nIn the table a figure is followed by a sign:\n"
                  "  =   every sample is of the same class as in our executor    !   differs\n"
                  "  ~   some are not, within the tolerance                      x   ok, but a rule of [gate] fails\n"
                  "  -   unsupported     .   not run here     crash, time: as above\n"
                  "  500 behind a row's name: so many samples ran there (matrix.samples, matrix.slow_samples)\n"
                  "Latency is the median of one sample; emulated rows and software GPUs have none that means anything.\n"
                  "\nFiles: RUN_DIR/matrix.json holds every figure, report.html the heat map with each cell in detail.\n"
                  "A row that is missing: tools/setup-runtimes brings it, `distill matrix RUN_DIR --list` says how.\n"
                  "See also: distill help gate, distill config --defaults ([matrix], [gate], [device NAME]).\n");
}

static void gate_topic(text *out)
{
    text_add(out, "\nA job's gate, for example:\n"
                  "  [gate]\n"
                  "  top1 >= 0.89                            every cell of the student that ran\n"
                  "  top1 drop <= 0.02 vs teacher            accuracy lost against the teacher's fp32 in the same runtime\n"
                  "  worst_class drop <= 0.02 vs champion    no class gets worse than in what ships now\n"
                  "  disagree <= 0.1%                        samples of another class than our float32 network's\n"
                  "  p90_ms <= 12 on ort                     one row; also patterns: on ort-*, on */int8-*\n"
                  "  size_mb <= 1\n"
                  "  ios = broken <= 0 on coreml*            with a name of its own\n"
                  "  spread <= 0.003                         between the runtimes of a variant\n"
                  "\nA margin below 0 fails, as does a figure that was not measured. Cells that are not run here or unsupported\n"
                  "are left out. `distill gate RUN_DIR` prints each rule with its tightest margin and ends with 0 when all hold,\n"
                  "else 1; --promote then makes the run the champion that `vs champion` means.\n");
}

void help_more(const char *topic, text *out)
{
    if (strcmp(topic, "matrix") == 0)
        matrix_topic(out);
    else if (strcmp(topic, "gate") == 0)
        gate_topic(out);
}
