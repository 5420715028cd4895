/* fake_dnn.cc - a twin of cuDNN's graph interface on the host: descriptors keep their attributes, a finalised plan is the
 * operation graph, and execution computes what the graph says (dims, steps, pads, virtual tensors between operations). */
#include <cmath>
#include <map>
#include <memory>
#include <vector>

extern "C" {
#include "kernels/cuda/dnn.h"
}
#include "emulator_inside.h"
#include "fake.h"
#include "kernels/cuda/cuda.cuh"

enum { NOT_SUPPORTED = 3000, BAD_PARAM = 2000, INTERNAL = 4000 };
#define MAY_FAIL()                                                                                                     \
    if (fake_fails())                                                                                                  \
    return INTERNAL

namespace {
const fake_engine usual[] = {{7, 0, DNN_MODE_A, 1e-6, 832, false, false, 0, 0}};
const fake_engine *engines = usual;
int n_engines = 1;
fake_dnn_asked asked;

struct attribute {
    int type;
    std::vector<unsigned char> bytes;
    int64_t n;
};
struct content {
    int kind;
    bool final;
    std::map<int, attribute> has;
    std::map<int, std::vector<std::shared_ptr<content>>> refers;
    int64_t number = -1, knob = 0; /* of engines and configurations */
};
typedef std::shared_ptr<content> ref;
struct descriptor {
    ref c;
};

size_t size_of(int type)
{
    switch (type) {
    case DNN_T_BOOL:
    case DNN_T_CHAR:
        return 1;
    case DNN_T_I64:
    case DNN_T_HANDLE:
    case DNN_T_POINTER:
    case DNN_T_DESCRIPTOR:
        return 8;
    default:
        return 4;
    }
}

template <class T> std::vector<T> all(const ref &c, int which)
{
    auto i = c->has.find(which);
    std::vector<T> v;
    if (i != c->has.end() && i->second.bytes.size() >= sizeof(T) * (size_t)i->second.n) {
        v.resize((size_t)i->second.n);
        memcpy(v.data(), i->second.bytes.data(), v.size() * sizeof(T));
    }
    return v;
}
template <class T> T one(const ref &c, int which, T otherwise)
{
    std::vector<T> v = all<T>(c, which);
    return v.empty() ? otherwise : v[0];
}
ref at(const ref &c, int which)
{
    auto i = c->refers.find(which);
    return i == c->refers.end() || i->second.empty() ? nullptr : i->second[0];
}

/* ---- what may be finalised ---- */

struct conv_parts {
    ref conv, x, w, y;
};
conv_parts parts_of(const ref &op)
{
    switch (op->kind) {
    case DNN_OP_FORWARD:
        return {at(op, DNN_FORWARD_CONV), at(op, DNN_FORWARD_X), at(op, DNN_FORWARD_W), at(op, DNN_FORWARD_Y)};
    case DNN_OP_DATA:
        return {at(op, DNN_DATA_CONV), at(op, DNN_DATA_DX), at(op, DNN_DATA_W), at(op, DNN_DATA_DY)};
    default:
        return {at(op, DNN_WEIGHT_CONV), at(op, DNN_WEIGHT_X), at(op, DNN_WEIGHT_DW), at(op, DNN_WEIGHT_DY)};
    }
}
bool is_conv(const ref &op) { return op->kind == DNN_OP_FORWARD || op->kind == DNN_OP_DATA || op->kind == DNN_OP_WEIGHT; }

bool tensor_is_whole(const ref &t)
{
    auto dim = all<int64_t>(t, DNN_TENSOR_DIMS), step = all<int64_t>(t, DNN_TENSOR_STEPS);
    return t && t->final && dim.size() >= 4 && dim.size() == step.size() && t->has.count(DNN_TENSOR_TYPE) &&
           t->has.count(DNN_TENSOR_ID) && one<int64_t>(t, DNN_TENSOR_ALIGNMENT, 0) == 16;
}

/* Channels, groups and the number of windows go together, as cuDNN demands it. */
bool conv_is_whole(const ref &op)
{
    const conv_parts p = parts_of(op);
    if (!p.conv || !p.x || !p.w || !p.y || !p.conv->final || !tensor_is_whole(p.x) || !tensor_is_whole(p.w) || !tensor_is_whole(p.y))
        return false;
    auto x = all<int64_t>(p.x, DNN_TENSOR_DIMS), w = all<int64_t>(p.w, DNN_TENSOR_DIMS), y = all<int64_t>(p.y, DNN_TENSOR_DIMS);
    auto stride = all<int64_t>(p.conv, DNN_CONV_STRIDES), dilation = all<int64_t>(p.conv, DNN_CONV_DILATIONS);
    auto before = all<int64_t>(p.conv, DNN_CONV_PADS_BEFORE), after = all<int64_t>(p.conv, DNN_CONV_PADS_AFTER);
    size_t axes = (size_t)one<int64_t>(p.conv, DNN_CONV_AXES, 0);
    if (axes + 2 != x.size() || stride.size() != axes || dilation.size() != axes || before.size() != axes || after.size() != axes)
        return false;
    if (x[0] != y[0] || w[0] != y[1] || w[1] < 1 || x[1] % w[1] || y[1] % (x[1] / w[1]))
        return false;
    for (size_t i = 0; i < axes; i++)
        if (y[2 + i] != (x[2 + i] + before[i] + after[i] - (w[2 + i] - 1) * dilation[i] - 1) / stride[i] + 1)
            return false;
    return true;
}

const fake_engine *engine_of(const ref &config)
{
    for (int i = 0; i < n_engines; i++)
        if (engines[i].number == config->number && engines[i].knob == config->knob)
            return &engines[i];
    return nullptr;
}

/* Q, K, V and y [B, H, S, D] go together; the scale is a number of the host. */
bool attention_is_whole(const ref &op)
{
    const int which[] = {DNN_ATTENTION_Q, DNN_ATTENTION_K, DNN_ATTENTION_V, DNN_ATTENTION_Y, DNN_ATTENTION_SCALE};
    for (int w : which)
        if (!at(op, w) || !tensor_is_whole(at(op, w)))
            return false;
    auto q = all<int64_t>(at(op, DNN_ATTENTION_Q), DNN_TENSOR_DIMS), k = all<int64_t>(at(op, DNN_ATTENTION_K), DNN_TENSOR_DIMS);
    auto v = all<int64_t>(at(op, DNN_ATTENTION_V), DNN_TENSOR_DIMS), y = all<int64_t>(at(op, DNN_ATTENTION_Y), DNN_TENSOR_DIMS);
    const ref sums = at(op, DNN_ATTENTION_SUMS);
    if (sums && (one<int>(sums, DNN_TENSOR_TYPE, -1) != DNN_FLOAT ||
                 all<int64_t>(sums, DNN_TENSOR_DIMS) != std::vector<int64_t>({q[0], q[1], q[2], 1})))
        return false;
    return q[0] == k[0] && q[1] == k[1] && q[3] == k[3] && v[0] == k[0] && v[1] == k[1] && v[2] == k[2] &&
           y == std::vector<int64_t>({q[0], q[1], q[2], v[3]}) && q[3] % 8 == 0 && v[3] % 8 == 0 &&
           one<int>(at(op, DNN_ATTENTION_Q), DNN_TENSOR_TYPE, -1) != DNN_FLOAT &&
           one<unsigned char>(at(op, DNN_ATTENTION_SCALE), DNN_TENSOR_BY_VALUE, 0);
}

/* x and dy are images of one shape; everything else is a float for each of their channels. */
bool norm_sums_are_whole(const ref &op)
{
    const ref x = at(op, DNN_SUMS_X), dy = at(op, DNN_SUMS_DY);
    if (!x || !dy || !tensor_is_whole(x) || !tensor_is_whole(dy) || one<int>(op, DNN_SUMS_TYPE, -1) != DNN_FLOAT)
        return false;
    std::vector<int64_t> dim = all<int64_t>(x, DNN_TENSOR_DIMS);
    if (all<int64_t>(dy, DNN_TENSOR_DIMS) != dim)
        return false;
    for (size_t i = 0; i < dim.size(); i++)
        dim[i] = i == 1 ? dim[i] : 1;
    for (int which = DNN_SUMS_MEAN; which <= DNN_SUMS_TERM; which++) {
        const ref t = at(op, which);
        if (which != DNN_SUMS_X && which != DNN_SUMS_DY &&
            (!t || all<int64_t>(t, DNN_TENSOR_DIMS) != dim || one<int>(t, DNN_TENSOR_TYPE, -1) != DNN_FLOAT))
            return false;
    }
    return true;
}

/* [..., m, k] [..., k, n] -> [..., m, n] */
bool product_is_whole(const ref &op)
{
    const ref a = at(op, DNN_OP_MATMUL_A), b = at(op, DNN_OP_MATMUL_B), c = at(op, DNN_OP_MATMUL_C);
    if (!at(op, DNN_OP_MATMUL_HOW) || !a || !b || !c || !tensor_is_whole(a) || !tensor_is_whole(b) || !tensor_is_whole(c))
        return false;
    auto x = all<int64_t>(a, DNN_TENSOR_DIMS), y = all<int64_t>(b, DNN_TENSOR_DIMS), z = all<int64_t>(c, DNN_TENSOR_DIMS);
    return x.size() == 4 && y.size() == 4 && z == std::vector<int64_t>({x[0], x[1], x[2], y[3]}) && y[0] == x[0] && y[1] == x[1] && y[2] == x[3];
}

/* The same memory with the last two axes exchanged: all that is known here of reshaping. */
bool reshape_is_whole(const ref &op)
{
    const ref a = at(op, DNN_RESHAPE_X), b = at(op, DNN_RESHAPE_Y);
    if (!a || !b || !tensor_is_whole(a) || !tensor_is_whole(b))
        return false;
    for (int which : {DNN_TENSOR_DIMS, DNN_TENSOR_STEPS}) {
        auto x = all<int64_t>(a, which), y = all<int64_t>(b, which);
        if (x.size() != 4 || y != std::vector<int64_t>({x[0], x[1], x[3], x[2]}))
            return false;
    }
    return true;
}

/* Every axis of the result is the data's, or 1. */
bool reduction_is_whole(const ref &op)
{
    const ref a = at(op, DNN_OP_REDUCTION_X), b = at(op, DNN_OP_REDUCTION_Y);
    if (!at(op, DNN_OP_REDUCTION_HOW) || !a || !b)
        return false;
    auto x = all<int64_t>(a, DNN_TENSOR_DIMS), y = all<int64_t>(b, DNN_TENSOR_DIMS);
    bool ok = x.size() == y.size();
    for (size_t i = 0; ok && i < x.size(); i++)
        ok = y[i] == 1 || y[i] == x[i];
    return ok;
}

/* Attention written out has engines only with the sums among its results or operands. */
bool has_engines(const ref &graph)
{
    bool multiplies = false, sums = false;
    for (const ref &op : graph->refers[DNN_GRAPH_OPS]) {
        multiplies = multiplies || op->kind == DNN_OP_MATMUL;
        for (int which : {DNN_OP_POINTWISE_Y, DNN_OP_POINTWISE_B})
            sums = sums || (op->kind == DNN_OP_POINTWISE && at(op, which) && one<int64_t>(at(op, which), DNN_TENSOR_ID, -1) == DNN_SUMS);
    }
    return !multiplies || sums;
}

int check(const ref &c)
{
    switch (c->kind) {
    case DNN_OP_ATTENTION:
        return attention_is_whole(c) ? 0 : (int)BAD_PARAM;
    case DNN_TENSOR: {
        c->final = true;
        bool ok = tensor_is_whole(c);
        c->final = ok;
        return ok ? 0 : (int)BAD_PARAM;
    }
    case DNN_OP_FORWARD:
    case DNN_OP_DATA:
    case DNN_OP_WEIGHT:
        return conv_is_whole(c) ? 0 : (int)BAD_PARAM;
    case DNN_OP_MATMUL:
        return product_is_whole(c) ? 0 : (int)BAD_PARAM;
    case DNN_OP_RESHAPE:
        return reshape_is_whole(c) ? 0 : (int)BAD_PARAM;
    case DNN_OP_REDUCTION:
        return reduction_is_whole(c) ? 0 : (int)BAD_PARAM;
    case DNN_OP_NORM_SUMS:
        return norm_sums_are_whole(c) ? 0 : (int)BAD_PARAM;
    case DNN_OP_POINTWISE:
        if (at(c, DNN_OP_POINTWISE_HOW) && one<int>(at(c, DNN_OP_POINTWISE_HOW), DNN_POINTWISE_MODE, -1) == DNN_RELU_BACKWARD)
            return at(c, DNN_OP_POINTWISE_X) && at(c, DNN_OP_POINTWISE_DY) && at(c, DNN_OP_POINTWISE_DX) ? 0 : (int)BAD_PARAM;
        return at(c, DNN_OP_POINTWISE_HOW) && at(c, DNN_OP_POINTWISE_X) && at(c, DNN_OP_POINTWISE_Y) ? 0 : (int)BAD_PARAM;
    case DNN_OP_STATS: { /* an image and two numbers for each of its channels */
        const ref x = at(c, DNN_STATS_X), sum = at(c, DNN_STATS_SUM), squares = at(c, DNN_STATS_SQUARES);
        if (!x || !sum || !squares || one<int>(c, DNN_STATS_MODE, -1) != 0 || one<int>(c, DNN_STATS_TYPE, -1) != DNN_FLOAT)
            return BAD_PARAM;
        std::vector<int64_t> dim(all<int64_t>(x, DNN_TENSOR_DIMS).size(), 1);
        dim[1] = all<int64_t>(x, DNN_TENSOR_DIMS)[1];
        for (const ref &t : {sum, squares})
            if (all<int64_t>(t, DNN_TENSOR_DIMS) != dim || one<int>(t, DNN_TENSOR_TYPE, -1) != DNN_FLOAT)
                return BAD_PARAM;
        return 0;
    }
    case DNN_GRAPH:
        return c->refers.count(DNN_GRAPH_OPS) ? 0 : (int)BAD_PARAM;
    case DNN_HEURISTIC:
        return at(c, DNN_HEURISTIC_GRAPH) ? 0 : (int)BAD_PARAM;
    case DNN_ENGINE:
        c->number = one<int64_t>(c, DNN_ENGINE_INDEX, -1);
        c->refers[DNN_HEURISTIC_GRAPH] = c->refers[DNN_ENGINE_GRAPH];
        for (int i = 0; i < n_engines && at(c, DNN_ENGINE_GRAPH); i++)
            if (engines[i].number == c->number)
                return 0;
        return NOT_SUPPORTED;
    case DNN_KNOB:
        return one<int>(c, DNN_KNOB_TYPE, -1) == 1 && c->has.count(DNN_KNOB_VALUE) ? 0 : (int)BAD_PARAM;
    case DNN_ENGINE_CONFIG:
        if (!at(c, DNN_CONFIG_ENGINE))
            return BAD_PARAM;
        c->number = at(c, DNN_CONFIG_ENGINE)->number;
        c->knob = at(c, DNN_CONFIG_KNOBS) ? one<int64_t>(at(c, DNN_CONFIG_KNOBS), DNN_KNOB_VALUE, 0) : 0;
        c->refers[DNN_HEURISTIC_GRAPH] = at(c, DNN_CONFIG_ENGINE)->refers[DNN_HEURISTIC_GRAPH];
        return 0;
    case DNN_PLAN:
        asked.plans++;
        return !at(c, DNN_PLAN_CONFIG) || !at(c, DNN_PLAN_CONFIG)->refers.count(DNN_HEURISTIC_GRAPH) ? (int)BAD_PARAM
               : !has_engines(at(at(c, DNN_PLAN_CONFIG), DNN_HEURISTIC_GRAPH))                      ? (int)NOT_SUPPORTED
               : !engine_of(at(c, DNN_PLAN_CONFIG)) || engine_of(at(c, DNN_PLAN_CONFIG))->broken    ? (int)NOT_SUPPORTED
                                                                                                       : 0;
    default:
        return 0;
    }
}

/* ---- computing ---- */

struct view {
    void *p;
    int type; /* DNN_FLOAT, DNN_HALF, DNN_BFLOAT16 */
    std::vector<int64_t> dim, step;
    /* Where index i (of any tensor with as many axes) lies; axes of length 1 repeat. */
    int64_t place(const std::vector<int64_t> &i) const
    {
        int64_t o = 0;
        for (size_t k = 0; k < dim.size(); k++)
            o += (dim[k] == 1 ? 0 : i[k]) * step[k];
        return o;
    }
    size_t size() const /* dense, whatever the order of axes */
    {
        size_t n = 1;
        for (int64_t d : dim)
            n *= (size_t)d;
        return n;
    }
    float operator()(const std::vector<int64_t> &i) const
    {
        const int64_t o = place(i);
        return type == DNN_HALF       ? as_float(((const __half *)p)[o])
               : type == DNN_BFLOAT16 ? as_float(((const __nv_bfloat16 *)p)[o])
                                      : ((const float *)p)[o];
    }
    void set(const std::vector<int64_t> &i, float v) const
    {
        const int64_t o = place(i);
        if (type == DNN_HALF)
            ((__half *)p)[o] = from_float<__half>(v);
        else if (type == DNN_BFLOAT16)
            ((__nv_bfloat16 *)p)[o] = from_float<__nv_bfloat16>(v);
        else
            ((float *)p)[o] = v;
    }
};
typedef std::map<int64_t, void *> operands;
typedef std::map<int64_t, std::vector<float>> scratch; /* virtual tensors: float32 whatever they are called */

view view_of(const ref &t, const operands &given, scratch &own)
{
    view v = {nullptr, one<int>(t, DNN_TENSOR_TYPE, -1), all<int64_t>(t, DNN_TENSOR_DIMS), all<int64_t>(t, DNN_TENSOR_STEPS)};
    int64_t id = one<int64_t>(t, DNN_TENSOR_ID, -1), n = 1;
    if (!one<unsigned char>(t, DNN_TENSOR_VIRTUAL, 0)) {
        v.p = given.at(id);
        return v;
    }
    v.type = DNN_FLOAT;
    for (int64_t d : v.dim)
        n *= d;
    own[id].resize((size_t)n);
    v.p = own[id].data();
    return v;
}

bool next(std::vector<int64_t> &i, const std::vector<int64_t> &dim)
{
    for (size_t k = dim.size(); k-- > 0;) {
        if (++i[k] < dim[k])
            return true;
        i[k] = 0;
    }
    return false;
}

/* Every product of the convolution once: y, x and w of a tap, with the result among them growing. */
void convolve(const ref &op, const operands &given, scratch &own)
{
    const conv_parts p = parts_of(op);
    view x = view_of(p.x, given, own), w = view_of(p.w, given, own), y = view_of(p.y, given, own);
    auto stride = all<int64_t>(p.conv, DNN_CONV_STRIDES), dilation = all<int64_t>(p.conv, DNN_CONV_DILATIONS),
         before = all<int64_t>(p.conv, DNN_CONV_PADS_BEFORE);
    const int64_t per_group = y.dim[1] / (x.dim[1] / w.dim[1]);
    const view result = op->kind == DNN_OP_FORWARD ? y : op->kind == DNN_OP_DATA ? x : w;
    std::vector<float> sum(result.size(), 0); /* rounded once, at the end */
    std::vector<int64_t> o(y.dim.size(), 0);
    do {
        std::vector<int64_t> tap_dim(w.dim.begin() + 1, w.dim.end()), tap(tap_dim.size(), 0);
        do {
            std::vector<int64_t> i = o, k(1, o[1]);
            bool inside = true;
            k.insert(k.end(), tap.begin(), tap.end());
            i[1] = o[1] / per_group * w.dim[1] + tap[0];
            for (size_t s = 0; s + 2 < o.size(); s++) {
                i[2 + s] = o[2 + s] * stride[s] + tap[1 + s] * dilation[s] - before[s];
                inside = inside && i[2 + s] >= 0 && i[2 + s] < x.dim[2 + s];
            }
            if (!inside)
                continue;
            if (op->kind == DNN_OP_FORWARD)
                sum[(size_t)y.place(o)] += w(k) * x(i);
            else if (op->kind == DNN_OP_DATA)
                sum[(size_t)x.place(i)] += w(k) * y(o);
            else
                sum[(size_t)w.place(k)] += y(o) * x(i);
        } while (next(tap, tap_dim));
    } while (next(o, y.dim));
    std::vector<int64_t> i(result.dim.size(), 0);
    do
        result.set(i, sum[(size_t)result.place(i)]);
    while (next(i, result.dim));
}

/* b: the second operand; of the backward direction, dy. */
float point(int mode, float x, float b)
{
    switch (mode) {
    case DNN_ADD:
        return x + b;
    case DNN_MULTIPLY:
        return x * b;
    case DNN_SUBTRACT:
        return x - b;
    case DNN_DIVIDE:
        return x / b;
    case DNN_EXP:
        return expf(x);
    case DNN_LOG:
        return logf(x);
    case DNN_RELU_BACKWARD:
        return x > 0 ? b : 0;
    default:
        return mode == DNN_IDENTITY || x >= 0 ? x : 0;
    }
}

void pointwise(const ref &op, const operands &given, scratch &own)
{
    const int mode = one<int>(at(op, DNN_OP_POINTWISE_HOW), DNN_POINTWISE_MODE, -1);
    const bool back = mode == DNN_RELU_BACKWARD;
    const ref second = at(op, back ? DNN_OP_POINTWISE_DY : DNN_OP_POINTWISE_B);
    view x = view_of(at(op, DNN_OP_POINTWISE_X), given, own), b = x;
    view y = view_of(at(op, back ? DNN_OP_POINTWISE_DX : DNN_OP_POINTWISE_Y), given, own);
    if (second)
        b = view_of(second, given, own);
    std::vector<int64_t> i(y.dim.size(), 0);
    do
        y.set(i, point(mode, x(i), b(i)));
    while (next(i, y.dim));
}

void sum_up(const ref &op, const operands &given, scratch &own)
{
    const view x = view_of(at(op, DNN_STATS_X), given, own);
    const view to[] = {view_of(at(op, DNN_STATS_SUM), given, own), view_of(at(op, DNN_STATS_SQUARES), given, own)};
    std::vector<double> sum[2];
    std::vector<int64_t> i(x.dim.size(), 0), of(x.dim.size(), 0);
    for (auto &s : sum)
        s.resize((size_t)x.dim[1]);
    do {
        sum[0][(size_t)i[1]] += (double)x(i);
        sum[1][(size_t)i[1]] += (double)x(i) * (double)x(i);
    } while (next(i, x.dim));
    for (int k = 0; k < 2; k++)
        for (of[1] = 0; of[1] < x.dim[1]; of[1]++)
            to[k].set(of, (float)sum[k][(size_t)of[1]]);
}

void multiply(const ref &op, const operands &given, scratch &own)
{
    const view a = view_of(at(op, DNN_OP_MATMUL_A), given, own), b = view_of(at(op, DNN_OP_MATMUL_B), given, own),
               c = view_of(at(op, DNN_OP_MATMUL_C), given, own);
    std::vector<int64_t> i(4, 0);
    do {
        float sum = 0;
        for (int64_t k = 0; k < a.dim[3]; k++)
            sum += a({i[0], i[1], i[2], k}) * b({i[0], i[1], k, i[3]});
        c.set(i, sum);
    } while (next(i, c.dim));
}

void exchange(const ref &op, const operands &given, scratch &own)
{
    const view x = view_of(at(op, DNN_RESHAPE_X), given, own), y = view_of(at(op, DNN_RESHAPE_Y), given, own);
    std::vector<int64_t> i(4, 0);
    do
        y.set(i, x({i[0], i[1], i[3], i[2]}));
    while (next(i, y.dim));
}

void reduce(const ref &op, const operands &given, scratch &own)
{
    const bool most = one<int>(at(op, DNN_OP_REDUCTION_HOW), DNN_REDUCTION_MODE, -1) == DNN_REDUCE_MAX;
    const view x = view_of(at(op, DNN_OP_REDUCTION_X), given, own), y = view_of(at(op, DNN_OP_REDUCTION_Y), given, own);
    std::vector<int64_t> i(x.dim.size(), 0);
    do
        y.set(i, most ? -INFINITY : 0);
    while (next(i, y.dim));
    do
        y.set(i, most ? fmaxf(y(i), x(i)) : y(i) + x(i));
    while (next(i, x.dim));
}

/* Of dy: its sum, that of dy * (x - mean) * inv, and the factors with which the norm's gradient is dy * a + x * b + c. */
void norm_sums(const ref &op, const operands &given, scratch &own)
{
    view part[DNN_SUMS_TERM - DNN_SUMS_MEAN + 1];
    for (int i = DNN_SUMS_MEAN; i <= DNN_SUMS_TERM; i++)
        part[i - DNN_SUMS_MEAN] = view_of(at(op, i), given, own);
    const auto of = [&](int which) -> const view & { return part[which - DNN_SUMS_MEAN]; };
    const view &x = of(DNN_SUMS_X), &dy = of(DNN_SUMS_DY), &mean = of(DNN_SUMS_MEAN), &inv = of(DNN_SUMS_INV);
    std::vector<double> sum((size_t)x.dim[1]), product((size_t)x.dim[1]);
    std::vector<int64_t> i(x.dim.size(), 0), c(x.dim.size(), 0);
    do {
        sum[(size_t)i[1]] += (double)dy(i);
        product[(size_t)i[1]] += (double)dy(i) * (double)((x(i) - mean(i)) * inv(i));
    } while (next(i, x.dim));
    const double m = (double)x.size() / (double)x.dim[1];
    for (c[1] = 0; c[1] < x.dim[1]; c[1]++) {
        const double s = sum[(size_t)c[1]], p = product[(size_t)c[1]], r = (double)inv(c), a = (double)of(DNN_SUMS_SCALE)(c) * r;
        of(DNN_SUMS_DSCALE).set(c, (float)p);
        of(DNN_SUMS_DBIAS).set(c, (float)s);
        of(DNN_SUMS_DY_FACTOR).set(c, (float)a);
        of(DNN_SUMS_X_FACTOR).set(c, (float)(-a * r * p / m));
        of(DNN_SUMS_TERM).set(c, (float)(a * (r * p * (double)mean(c) - s) / m));
    }
}

void attend(const ref &op, const operands &given, scratch &own, float scale)
{
    const view q = view_of(at(op, DNN_ATTENTION_Q), given, own), k = view_of(at(op, DNN_ATTENTION_K), given, own);
    const view v = view_of(at(op, DNN_ATTENTION_V), given, own), y = view_of(at(op, DNN_ATTENTION_Y), given, own);
    const ref sums = at(op, DNN_ATTENTION_SUMS);
    const int64_t keys = k.dim[2];
    std::vector<float> p((size_t)keys);
    for (int64_t b = 0; b < q.dim[0]; b++)
        for (int64_t h = 0; h < q.dim[1]; h++)
            for (int64_t i = 0; i < q.dim[2]; i++) {
                float most = -INFINITY, sum = 0;
                for (int64_t j = 0; j < keys; j++) {
                    float s = 0;
                    for (int64_t d = 0; d < q.dim[3]; d++)
                        s += q({b, h, i, d}) * k({b, h, j, d});
                    p[(size_t)j] = s * scale;
                    most = s * scale > most ? s * scale : most;
                }
                for (float &s : p)
                    sum += s = expf(s - most);
                for (int64_t d = 0; d < y.dim[3]; d++) {
                    float o = 0;
                    for (int64_t j = 0; j < keys; j++)
                        o += p[(size_t)j] / sum * v({b, h, j, d});
                    y.set({b, h, i, d}, o);
                }
                if (sums)
                    view_of(sums, given, own).set({b, h, i, 0}, most + logf(sum));
            }
}

/* scale: what the graph's number was when the work was given. */
void run_graph(const ref &graph, operands given, float scale)
{
    scratch own;
    given[DNN_SCALE] = &scale;
    for (const ref &op : graph->refers[DNN_GRAPH_OPS])
        if (op->kind == DNN_OP_ATTENTION)
            attend(op, given, own, scale);
        else
            is_conv(op)                    ? convolve(op, given, own)
            : op->kind == DNN_OP_STATS     ? sum_up(op, given, own)
            : op->kind == DNN_OP_NORM_SUMS ? norm_sums(op, given, own)
            : op->kind == DNN_OP_MATMUL    ? multiply(op, given, own)
            : op->kind == DNN_OP_REDUCTION ? reduce(op, given, own)
            : op->kind == DNN_OP_RESHAPE   ? exchange(op, given, own)
                                           : pointwise(op, given, own);
}

/* ---- the calls ---- */

struct handle {
    void *stream;
};

int dnn_create(void **out)
{
    MAY_FAIL();
    *out = new handle{nullptr};
    fake_count(1);
    return 0;
}
int dnn_destroy(void *h)
{
    delete (handle *)h;
    fake_count(-1);
    return 0;
}
int dnn_set_stream(void *h, void *stream)
{
    MAY_FAIL();
    ((handle *)h)->stream = stream;
    return 0;
}
int dnn_make(int kind, void **out)
{
    MAY_FAIL();
    *out = new descriptor{std::make_shared<content>(content{kind, false, {}, {}, -1, 0})};
    fake_count(1);
    return 0;
}
int dnn_unmake(void *d)
{
    delete (descriptor *)d;
    fake_count(-1);
    return 0;
}
int dnn_set(void *d, int which, int type, int64_t n, const void *from)
{
    const ref &c = ((descriptor *)d)->c;
    MAY_FAIL();
    if (c->final || n < 1 || !from)
        return BAD_PARAM;
    if (type == DNN_T_DESCRIPTOR) {
        for (int64_t i = 0; i < n; i++) {
            descriptor *other = ((descriptor *const *)from)[i];
            if (!other || !other->c->final)
                return BAD_PARAM;
            c->refers[which].push_back(other->c);
        }
        return 0;
    }
    attribute a = {type, {}, n};
    a.bytes.assign((const unsigned char *)from, (const unsigned char *)from + (size_t)n * size_of(type));
    c->has[which] = a;
    return 0;
}
int dnn_finalize(void *d)
{
    MAY_FAIL();
    int code = check(((descriptor *)d)->c);
    ((descriptor *)d)->c->final = code == 0;
    return code;
}
int dnn_get(void *d, int which, int type, int64_t most, int64_t *n, void *to)
{
    const ref &c = ((descriptor *)d)->c;
    MAY_FAIL();
    if (!c->final || (type == DNN_T_DESCRIPTOR) != (which == DNN_HEURISTIC_RESULTS || which == DNN_CONFIG_ENGINE || which == DNN_CONFIG_KNOBS))
        return BAD_PARAM;
    *n = 0;
    if (which == DNN_HEURISTIC_RESULTS) {
        asked.heuristics++;
        for (int i = 0; i < n_engines && *n < most; i++) {
            if (engines[i].mode != one<int>(c, DNN_HEURISTIC_MODE, -1))
                continue;
            const ref &config = ((descriptor **)to)[(*n)++]->c;
            config->refers[DNN_HEURISTIC_GRAPH] = c->refers[DNN_HEURISTIC_GRAPH];
            config->number = engines[i].number;
            config->knob = engines[i].knob;
            config->final = true;
        }
        return 0;
    }
    if (most < 1)
        return 0;
    *n = 1;
    switch (which) {
    case DNN_CONFIG_ENGINE:
        (*(descriptor **)to)->c->number = c->number;
        (*(descriptor **)to)->c->knob = c->knob;
        (*(descriptor **)to)->c->final = true;
        break;
    case DNN_CONFIG_KNOBS: {
        const int type = 1;
        void *knob = *(void **)to;
        int code = dnn_set(knob, DNN_KNOB_TYPE, DNN_T_KNOB, 1, &type);
        code = code ? code : dnn_set(knob, DNN_KNOB_VALUE, DNN_T_I64, 1, &c->knob);
        return code ? code : dnn_finalize(knob);
    }
    case DNN_KNOB_TYPE:
        *(int *)to = one<int>(c, which, -1);
        break;
    case DNN_KNOB_VALUE:
        *(int64_t *)to = one<int64_t>(c, which, -1);
        break;
    case DNN_ENGINE_INDEX:
        *(int64_t *)to = c->number;
        break;
    case DNN_PLAN_WORKSPACE:
        *(int64_t *)to = (int64_t)engine_of(at(c, DNN_PLAN_CONFIG))->workspace;
        break;
    case DNN_ENGINE_NUMERICAL:
        *n = engine_of(c) && engine_of(c)->note ? 1 : 0;
        if (*n)
            *(int *)to = engine_of(c)->note - 1;
        break;
    default:
        *n = 0;
    }
    return 0;
}
int dnn_execute(void *h, void *plan, void *variant)
{
    MAY_FAIL();
    const ref p = ((descriptor *)plan)->c, v = ((descriptor *)variant)->c;
    auto id = all<int64_t>(v, DNN_VARIANT_IDS);
    auto pointer = all<void *>(v, DNN_VARIANT_POINTERS);
    void *work = one<void *>(v, DNN_VARIANT_WORKSPACE, nullptr);
    if (!p->final || !v->final || id.size() != pointer.size() || !work)
        return BAD_PARAM;
    operands given;
    for (size_t i = 0; i < id.size(); i++) {
        if (id[i] != DNN_SCALE && (uintptr_t)pointer[i] % 16) /* what tensors promise (DNN_TENSOR_ALIGNMENT) */
            return BAD_PARAM;
        given[id[i]] = pointer[i];
    }
    const ref graph = at(at(p, DNN_PLAN_CONFIG), DNN_HEURISTIC_GRAPH);
    const fake_engine e = *engine_of(at(p, DNN_PLAN_CONFIG));
    const float scale = given.count(DNN_SCALE) ? *(const float *)given[DNN_SCALE] : 1;
    asked.runs++;
    if (e.stops)
        return INTERNAL;
    double seconds = e.seconds;
    for (const ref &op : graph->refers[DNN_GRAPH_OPS])
        seconds += op->kind == DNN_OP_STATS || op->kind == DNN_OP_NORM_SUMS ? e.sums : 0;
    emulator_enqueue(((handle *)h)->stream, [=] {
        memset(work, 0xEE, e.workspace);
        run_graph(graph, given, scale);
        emulator_pass(seconds);
    });
    return 0;
}
} // namespace

extern "C" void fake_dnn_engines(const fake_engine *e, int n)
{
    engines = n ? e : usual;
    n_engines = n ? n : 1;
    asked = {};
}
extern "C" const fake_dnn_asked *fake_dnn_count(void) { return &asked; }

extern "C" const dnn_api fake_dnn_api = {
#define FIELD(field, name, parameters, arguments) .field = dnn_##field,
    DNN_API(FIELD)
#undef FIELD
};
