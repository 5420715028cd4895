/* importer.h - private to the import: what its files share.
 *
 * Flow: import.c (model, inputs, outputs) -> scope.c (names, order) -> import_node.c (one node: inputs, attributes,
 * rewriting, adding, folding) with attributes.c, rewrite.c (older opsets), special.c (Constant, If, Shape ...), roles.c. */
#ifndef DISTILL_ONNX_IMPORTER_H
#define DISTILL_ONNX_IMPORTER_H

#include "graph/graph.h"
#include "onnx.pb-c.h"
#include "onnx/import.h"
#include "onnx/names.h"

/* What a name of the model stands for. */
typedef struct symbol {
    const char *name;              /* in the model */
    const char *value_name;        /* of the graph's value */
    const Onnx__TensorProto *init; /* its initializer; loaded when first used */
    uint32_t node;                 /* 1 + index of the node that makes it; 0: none */
    value_id v;                    /* when `made`; 0: an optional that is absent */
    bool made, used;
} symbol;

/* The names of one graph or function body. */
typedef struct scope {
    const struct scope
        *outer; /* graph around a subgraph, whose names are seen too; NULL for the model and for functions */
    const char *prefix; /* of value and node names: "" or "CALL/" */
    int64_t opset;      /* of the default domain */
    Onnx__NodeProto *const *node;
    size_t n_node;
    const Onnx__NodeProto *call; /* of a function: where attribute references lead */
    Onnx__AttributeProto *const *defaults;
    size_t n_defaults;
    name_map names; /* -> 1 + index of the symbol */
    symbol *sym;
    size_t n_sym, cap_sym;
} scope;

typedef struct importer {
    const onnx_model *m;
    const import_options *o;
    graph *g;
    arena mem; /* scratch; dies with the import */
    tensor_source src;
    int64_t batch, model_batch; /* model_batch > 0: the model fixes another batch and is being rebound */
    name_map functions;         /* "DOMAIN NAME" -> 1 + index in the model */
    Onnx__AttributeProto ***function_defaults; /* [n_functions] */
    size_t *n_function_defaults;
    uint8_t *from_init; /* [cap_from_init] per value: made of initializers alone */
    size_t cap_from_init;
    uint64_t folded; /* bytes of constants made so far */
    double fold_work;           /* what computing them has cost */
    size_t n_nodes;  /* nodes of all bodies entered so far, against limits.nodes */
    unsigned depth;  /* of bodies within bodies */
    bool noted_training;
} importer;

/* A node on its way into the graph. */
typedef struct draft {
    const Onnx__NodeProto *from;
    scope *s;
    const char *name;
    op_id op;
    void *attr;     /* of op_of(op)->attr_size bytes, in the scratch arena */
    uint64_t given; /* bit i: attribute row i has been set */
    value_id *in;   /* room for at least 4 more than ONNX gives */
    size_t n_in;
    const char **out; /* names of the graph's values; NULL: not wanted */
    size_t n_out;
    value_id *made; /* [n_out] after draft_add */
    bool added;     /* a rewrite has added the node itself */
} draft;

/* scope.c */
MUST_USE status scope_declare(importer *im, scope *s, const char *name,
                              symbol **out);          /* refuses a second one */
symbol *scope_find(const scope *s, const char *name); /* here only; NULL: none */
/* Declares the outputs of all nodes of the body. */
MUST_USE status scope_declare_nodes(importer *im, scope *s);
/* The order in which the nodes that `wanted` needs are imported: file order unless that is not topological. Marks symbols
 * as used. *order in the scratch arena. */
MUST_USE status scope_order(importer *im, scope *s, symbol *const *wanted, size_t n_wanted, uint32_t **order,
                            size_t *n);
/* The value of a name, loading its initializer when need be. */
MUST_USE status scope_value(importer *im, const scope *s, const char *name, value_id *v);
MUST_USE status scope_run(importer *im, scope *s, const uint32_t *order, size_t n);
void scope_free(scope *s);

/* import_node.c */
MUST_USE status import_node(importer *im, scope *s, const Onnx__NodeProto *n);
/* Starts a draft: name, default attributes, inputs, names of outputs. */
MUST_USE status draft_begin(importer *im, scope *s, const Onnx__NodeProto *n, op_id op, draft *d);
MUST_USE status draft_end(draft *d); /* binds the outputs' names to what was made */
/* Adds a draft's node, folds it when its inputs are constants, and binds nothing. */
MUST_USE status draft_add(importer *im, draft *d);
/* One helper node with default names, folded when constant. */
MUST_USE status import_add(importer *im, op_id op, const void *attr, const value_id *in, size_t n_in,
                           value_id *out);
MUST_USE status import_reshape(importer *im, value_id v, shape sh, value_id *out);
/* A constant with the contents of `from` (not copied) under another name and kind. */
MUST_USE status import_alias(importer *im, const char *name, value_id from, value_kind kind, value_id *out);
/* "node 'NAME' (Op): ..." for messages. */
MUST_USE PRINTF_LIKE(3, 4) status node_fail(const scope *s, const Onnx__NodeProto *n, const char *fmt, ...);
const char *node_label(const Onnx__NodeProto *n); /* its name, else its first output's */
MUST_USE status bind_output(scope *s, const char *name, value_id v);
MUST_USE status mark_from_init(importer *im, value_id v);
bool is_from_init(const importer *im, value_id v);

/* attributes.c */
/* The attribute an attribute refers to (function parameters); *out NULL when the call does not give it. */
MUST_USE status attribute_resolve(const scope *s, const Onnx__NodeProto *n, const Onnx__AttributeProto *a,
                                  const Onnx__AttributeProto **out);
/* Finds one by name (resolved); NULL: not given. */
MUST_USE status attribute_find(const scope *s, const Onnx__NodeProto *n, const char *name, int type,
                               const Onnx__AttributeProto **out);
/* Reads n's attributes into d->attr; `takes`: blank-separated names that the rewrite looks at itself. */
MUST_USE status attributes_read(importer *im, draft *d, const char *takes);
/* Moves constant inputs into attributes (attr_desc.from_input) and closes the gaps. */
MUST_USE status attributes_from_inputs(importer *im, draft *d);

/* rewrite.c: one row per operator and range of opsets */
typedef struct rewrite {
    const char *op_type;
    int since, until; /* opsets */
    const char *takes;
    op_id becomes;                            /* OP_NONE: the operator of that name */
    status (*before)(importer *im, draft *d); /* inputs are known, attributes are defaults */
    status (*after)(importer *im, draft *d);  /* attributes are known */
} rewrite;
const rewrite *rewrite_find(const char *op_type, int64_t opset); /* NULL: none */
/* blocks.c: rewrites of QuantizeLinear and DequantizeLinear with block_size > 0; others stay as they are. */
MUST_USE status quantize_blocks(importer *im, draft *d);
MUST_USE status dequantize_blocks(importer *im, draft *d);

/* special.c: operators that become a constant or another operator, or bodies */
typedef status (*special_fn)(importer *im, scope *s, const Onnx__NodeProto *n);
special_fn special_find(const char *op_type); /* NULL: none */

/* microsoft.c: operators of the domain com.microsoft; *known false: not one of them, nothing was done */
#define MICROSOFT "com.microsoft"
MUST_USE status microsoft_node(importer *im, scope *s, const Onnx__NodeProto *n, bool *known);

/* inline.c: bodies within bodies */
MUST_USE status inline_if(importer *im, scope *s, const Onnx__NodeProto *n);
MUST_USE status inline_function(importer *im, scope *s, const Onnx__NodeProto *call, size_t function);

/* roles.c */
/* Inputs of a node that is about to be added and that are weights become parameters, running statistics states. A node of
 * constants alone is computed, its operands are none. */
MUST_USE status roles_apply(importer *im, draft *d, bool all_constant);

#endif
