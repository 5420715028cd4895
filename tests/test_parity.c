/* test_parity.c - training steps against PyTorch, number by number (data/README.md, fashion-teacher/parity).
 *
 * The goldens are PyTorch's float64 results. Tolerances are relative L2 distances of whole tensors: step 1 is compared
 * tightly, step 20 at 2e-2, where PyTorch's own float32 moves up to 7.6e-3. Tensors are looked up by name; a missing or
 * an extra name fails. */
#include "harness.h"
#include "config/config.h"
#include "data/npy.h"
#include "train/parity.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define DATA   SOURCE_DIR "/data/"
#define GOLDEN DATA "fashion-teacher/parity/"

static const char job_text[] = "[data]\ndir = " DATA "fashion-mnist\nsamples = 0:2560\nshuffle = false\nmean = 0.2860\n"
                               "std = 0.3530\n[student]\nonnx = " GOLDEN "student_init.onnx\n"
                               "[train]\nlr = 0.002\nschedule = constant\nno_decay =\n";

typedef struct setting {
    const char *teacher;   /* file in data/, NULL: none */
    uint64_t steps;
    bool wide;
    const char *set[8];    /* "section.key=value", up to the first NULL */
} setting;

static tensor_list run(setting s)
{
    job *j = NULL;
    tensor_list out = {0};
    char teacher[4096];
    size_t n = 0;
    while (n < 8 && s.set[n])
        n++;
    snprintf(teacher, sizeof teacher, DATA "%s", s.teacher ? s.teacher : "");
    const config_override flag = {"teacher.path", teacher, "--teacher"};
    const config_sources from = {.set = s.set, .n_set = n, .flags = &flag, .n_flags = s.teacher ? 1 : 0};
    OK(config_load_text("parity", job_text, sizeof job_text - 1, &from, &j));
    OK(parity_run(&(parity_options){.j = j, .steps = s.steps, .wide = s.wide}, &out));
    config_free(j);
    return out;
}

/* ---- distances ---- */

typedef struct distance {
    double largest, median;
    size_t n;
    char where[64];
} distance;

static const tensor *find(const tensor_list *l, const char *prefix, const char *name)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const tensor *t = tensor_list_find(l, full);
    ck_assert_msg(t != NULL, "there is no '%s'", full);
    return t;
}

/* ||have - want|| / ||want|| over the first elements of both, as many as `have` holds. */
static double relative(const tensor *have, const tensor *want)
{
    double sum = 0, norm = 0;
    int64_t n = shape_count(&have->sh);
    ck_assert_int_le(n, shape_count(&want->sh));
    for (int64_t i = 0; i < n; i++) {
        double d = tensor_at(have, i) - tensor_at(want, i);
        sum += d * d;
        norm += tensor_at(want, i) * tensor_at(want, i);
    }
    ck_assert_msg(norm > 0, "'%s' is all zeros", want->name);
    ck_assert_msg(isfinite(sum), "'%s' is not finite", have->name);
    return sqrt(sum / norm);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static tensor_list golden(const char *file)
{
    char path[4096];
    tensor_list l = {0};
    limits lim = limits_default();
    snprintf(path, sizeof path, GOLDEN "%s", file);
    OK(npz_read(path, &lim, &l));
    return l;
}

/* Every tensor of the file with its counterpart of the name prefix + name. */
static distance compare(const tensor_list *have, const char *prefix, const char *file)
{
    tensor_list want = golden(file);
    distance d = {0};
    double all[256];
    ck_assert_uint_le(want.n, 256);
    for (size_t i = 0; i < want.n; i++) {
        const tensor *mine = find(have, prefix, want.at[i].name);
        ck_assert_msg(shape_equal(&mine->sh, &want.at[i].sh), "'%s' has another shape", want.at[i].name);
        all[i] = relative(mine, &want.at[i]);
        if (all[i] >= d.largest) {
            d.largest = all[i];
            snprintf(d.where, sizeof d.where, "%s", want.at[i].name);
        }
    }
    d.n = want.n;
    qsort(all, d.n, sizeof *all, by_value);
    d.median = all[d.n / 2];
    tensor_list_free(&want);
    return d;
}

/* Names that are neither losses nor gradients nor logits: the state. */
static size_t count_state(const tensor_list *l)
{
    static const char *const other[] = {"loss.", "grad.", "teacher.logits", "student.logits", "lr"};
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++) {
        bool is_state = true;
        for (size_t k = 0; k < sizeof other / sizeof *other; k++)
            is_state &= strncmp(l->at[i].name, other[k], strlen(other[k])) != 0;
        n += is_state;
    }
    return n;
}

static size_t count_gradients(const tensor_list *l)
{
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++)
        n += strncmp(l->at[i].name, "grad.", 5) == 0;
    return n;
}

static void check_gradients(const char *label, const tensor_list *l, const char *file, double largest, double median)
{
    distance d = compare(l, "grad.", file);
    char name[160];
    ck_assert_uint_eq(count_gradients(l), d.n);
    snprintf(name, sizeof name, "%s: gradient of %s", label, d.where);
    test_max_error(name, d.largest, largest);
    snprintf(name, sizeof name, "%s: median gradient", label);
    test_max_error(name, d.median, median);
    ck_assert_msg(d.largest <= largest, "%s: gradient of %s is off by %g", label, d.where, d.largest);
    ck_assert_msg(d.median <= median, "%s: median gradient is off by %g", label, d.median);
}

static void check_state(const char *label, const tensor_list *l, const char *file, double largest)
{
    distance d = compare(l, "", file);
    char name[160];
    ck_assert_uint_eq(count_state(l), d.n);
    snprintf(name, sizeof name, "%s: state %s", label, d.where);
    test_max_error(name, d.largest, largest);
    ck_assert_msg(d.largest <= largest, "%s: %s is off by %g", label, d.where, d.largest);
}

/* Losses of the steps: parity.json has [CE, T^2 KL, total] of each. `first`: tolerance of step 1; `later` of the others. */
static void check_losses(const char *label, const tensor_list *l, uint64_t steps, double first, double later)
{
    static const char *const names[] = {"loss.ce", "loss.kl", "loss.total"};
    json_error_t e;
    json_t *root = json_load_file(GOLDEN "parity.json", 0, &e);
    ck_assert_msg(root != NULL, "%s", e.text);
    const json_t *rows = json_object_get(root, "losses_fp64");
    double worst[2] = {0};
    for (int k = 0; k < 3; k++) {
        const tensor *mine = find(l, "", names[k]);
        ck_assert_int_eq(shape_count(&mine->sh), (int64_t)steps);
        for (size_t i = 0; i < steps; i++) {
            double want = json_number_value(json_array_get(json_array_get(rows, i), (size_t)k));
            double off = fabs(tensor_at(mine, (int64_t)i) - want) / want;
            worst[i > 0] = fmax(worst[i > 0], off);
            ck_assert_msg(off <= (i ? later : first), "%s: %s of step %zu is %.9g, PyTorch has %.9g", label, names[k],
                          i + 1, tensor_at(mine, (int64_t)i), want);
        }
    }
    json_decref(root);
    char name[160];
    snprintf(name, sizeof name, "%s: losses of step 1", label);
    test_max_error(name, worst[0], first);
    if (steps > 1) {
        snprintf(name, sizeof name, "%s: losses of the other steps", label);
        test_max_error(name, worst[1], later);
    }
}

static void check_logits(const char *label, const tensor_list *l, double tolerance)
{
    tensor_list want = golden("logits_fp64.npz");
    static const char *const pairs[][2] = {{"teacher.logits", "teacher_logits"}, {"student.logits", "student_logits"}};
    for (int i = 0; i < 2; i++) {
        double d = relative(find(l, "", pairs[i][0]), find(&want, "", pairs[i][1]));
        char name[160];
        snprintf(name, sizeof name, "%s: %s", label, pairs[i][0]);
        test_max_error(name, d, tolerance);
        ck_assert_msg(d <= tolerance, "%s: %s is off by %g", label, pairs[i][0], d);
    }
    tensor_list_free(&want);
}

/* The gate for float32 at step 1. */
static void check_first_step(const char *label, const tensor_list *l)
{
    check_losses(label, l, 1, 1e-6, 0);
    check_logits(label, l, 2e-6);
    check_gradients(label, l, "grad_step1_fp64.npz", 2e-4, 1e-5);
    check_state(label, l, "state_after_1_fp64.npz", 1e-5);
}

/* ---- tests ---- */

#define TEACHER "fashion-teacher.onnx"

START_TEST(float32_equals_pytorch_after_one_step)
{
    tensor_list l = run((setting){.teacher = TEACHER, .steps = 1});
    check_first_step("float32", &l);
    ck_assert(find(&l, "", "lr")->type == DTYPE_F64);
    ck_assert_double_eq_tol(tensor_at(find(&l, "", "lr"), 0), 0.002, 1e-9);
    tensor_list_free(&l);
}
END_TEST

START_TEST(float32_stays_with_pytorch_for_twenty_steps)
{
    tensor_list l = run((setting){.teacher = TEACHER, .steps = 20});
    check_losses("float32", &l, 20, 1e-6, 1e-3);
    check_state("float32, 20 steps", &l, "state_after_20_fp64.npz", 2e-2);
    check_gradients("float32, gradients are those of step 1", &l, "grad_step1_fp64.npz", 2e-4, 1e-5);
    tensor_list_free(&l);
}
END_TEST

/* The same graph in double by the reference kernels, the teacher read from its training-mode export (opset 13, batch norms
 * with five outputs): what differs from float32 above is rounding, nothing else. */
START_TEST(float64_equals_pytorch_to_nine_digits)
{
    tensor_list l = run((setting){.teacher = "fashion-teacher/teacher_op13_train.onnx", .steps = 1, .wide = true});
    check_losses("float64", &l, 1, 1e-9, 0);
    check_logits("float64", &l, 1e-9);
    check_gradients("float64", &l, "grad_step1_fp64.npz", 1e-9, 1e-10);
    check_state("float64", &l, "state_after_1_fp64.npz", 1e-9);
    tensor_list_free(&l);
}
END_TEST

/* Each term alone: a wrong factor in one could hide behind the other. Without a term its part is not built. */
START_TEST(gradients_of_each_loss_alone)
{
    tensor_list ce = run((setting){.steps = 1, .set = {"distill.task=1", "distill.kd=0"}});
    check_gradients("cross entropy", &ce, "grad_ce_step1.npz", 2e-4, 1e-5);
    ck_assert(tensor_list_find(&ce, "loss.kl") == NULL);
    ck_assert(tensor_list_find(&ce, "teacher.logits") == NULL);
    tensor_list kl = run((setting){.teacher = TEACHER, .steps = 1, .set = {"distill.task=0", "distill.kd=1"}});
    check_gradients("T^2 KL", &kl, "grad_kl_step1.npz", 2e-4, 1e-5);
    ck_assert(tensor_list_find(&kl, "loss.ce") == NULL);
    tensor_list_free(&ce);
    tensor_list_free(&kl);
}
END_TEST

START_TEST(reference_kernels_meet_the_same_gate)
{
    tensor_list l = run((setting){.teacher = TEACHER, .steps = 1, .set = {"exec.kernels=reference"}});
    check_first_step("reference kernels", &l);
    tensor_list_free(&l);
}
END_TEST

static bool same(const tensor_list *a, const tensor_list *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++) {
        const tensor *x = &a->at[i], *y = &b->at[i];
        if (strcmp(x->name, y->name) || !shape_equal(&x->sh, &y->sh) || x->type != y->type ||
            memcmp(x->data, y->data, tensor_bytes(x)) != 0)
            return false;
    }
    return true;
}

START_TEST(every_convolution_method_meets_the_same_gate)
{
    static const char *const methods[] = {"exec.conv=direct", "exec.conv=reference", "exec.conv=winograd"};
    tensor_list kept[3];
    for (int i = 0; i < 3; i++) {
        kept[i] = run((setting){.teacher = TEACHER, .steps = 1, .set = {methods[i]}});
        check_first_step(methods[i], &kept[i]);
    }
    ck_assert_msg(!same(&kept[0], &kept[1]) && !same(&kept[0], &kept[2]) && !same(&kept[1], &kept[2]),
                  "two methods give the same bytes: the key does nothing");
    for (int i = 0; i < 3; i++)
        tensor_list_free(&kept[i]);
}
END_TEST

START_TEST(threads_change_no_bit)
{
    tensor_list one = run((setting){.teacher = TEACHER, .steps = 3, .set = {"exec.threads=1"}});
    tensor_list two = run((setting){.teacher = TEACHER, .steps = 3, .set = {"exec.threads=2"}});
    tensor_list seven = run((setting){.teacher = TEACHER, .steps = 3, .set = {"exec.threads=7"}});
    ck_assert(same(&one, &two));
    ck_assert(same(&one, &seven));
    tensor_list other = run((setting){.teacher = TEACHER, .steps = 3, .set = {"exec.threads=1", "train.lr=0.0020001"}});
    ck_assert_msg(!same(&one, &other), "the comparison sees nothing");
    tensor_list_free(&one);
    tensor_list_free(&two);
    tensor_list_free(&seven);
    tensor_list_free(&other);
}
END_TEST

const test_entry test_table[] = {TEST(float32_equals_pytorch_after_one_step),
                                 TEST(float32_stays_with_pytorch_for_twenty_steps),
                                 TEST(float64_equals_pytorch_to_nine_digits),
                                 TEST(gradients_of_each_loss_alone),
                                 TEST(reference_kernels_meet_the_same_gate),
                                 TEST(every_convolution_method_meets_the_same_gate),
                                 TEST(threads_change_no_bit),
                                 {0}};
