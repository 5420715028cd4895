/* folder.c - a folder of images as a data set: train/CLASS/IMAGE, CLASS/IMAGE, or IMAGE. */
#include "base/hash.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/source.h"

#include <inttypes.h>
#include <string.h>

static const char *const val_folders[] = {"val", "valid", "validation", "test"};

/* The files of a part while they are collected. */
typedef struct pile {
    source *s;
    const char **class; /* [n] name of each file's class, or NULL */
    size_t cap, class_cap;
    uint64_t most;
    uint32_t ignored; /* files that are no images */
} pile;

static status add_file(pile *p, const char *class, const char *name)
{
    source *s = p->s;
    if (s->n >= p->most)
        return fail(ST_BAD_DATA, "%s: more than limits.samples = %" PRIu64 " images", s->place, p->most);
    TRY(mem_push(&s->file, &p->cap, s->n, sizeof *s->file));
    TRY(mem_push(&p->class, &p->class_cap, s->n, sizeof *p->class));
    if (class)
        TRY(arena_printf(&s->names, &s->file[s->n], "%s/%s", class, name));
    else
        TRY(arena_strdup(&s->names, &s->file[s->n], name));
    p->class[s->n++] = class;
    return ST_OK;
}

static bool hidden(const char *name)
{
    return name[0] == '.';
}

static status add_class(pile *p, const char *dir, const char *class)
{
    char **name, *path;
    size_t n;
    const char *kept;
    uint32_t before = p->s->n;
    TRY(arena_strdup(&p->s->names, &kept, class));
    TRY(path_join(&path, dir, class));
    status st = io_list(path, p->most, &name, &n);
    if (st == ST_OK) {
        for (size_t i = 0; i < n && st == ST_OK; i++)
            if (image_has_suffix(name[i]) && !hidden(name[i]))
                st = add_file(p, kept, name[i]);
            else
                p->ignored++;
        io_list_free(name, n);
    }
    if (st == ST_OK && p->s->n == before)
        st = fail(ST_BAD_DATA, "%s: the class folder holds no images (.jpg .png .bmp .tga .ppm .pgm .pnm)",
                  path);
    mem_free(path);
    return st;
}

static status is_folder(const char *dir, const char *name, bool *yes)
{
    char *path;
    TRY(path_join(&path, dir, name));
    *yes = io_is_dir(path);
    mem_free(path);
    return ST_OK;
}

/* Folders are classes; only without any folder the images themselves count. */
static status collect(pile *p, const char *dir, char **name, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool folder = false;
        if (hidden(name[i]))
            continue;
        if (!image_has_suffix(name[i]))
            TRY(is_folder(dir, name[i], &folder));
        if (folder)
            TRY(add_class(p, dir, name[i]));
    }
    bool classes = p->s->n > 0;
    for (size_t i = 0; i < n; i++) {
        if (hidden(name[i]) || !image_has_suffix(name[i]))
            continue;
        if (classes)
            p->ignored++;
        else
            TRY(add_file(p, NULL, name[i]));
    }
    if (p->s->n == 0)
        return fail(ST_BAD_DATA,
                    "%s: neither class folders nor images (.jpg .png .bmp .tga .ppm .pgm .pnm) in it", dir);
    return ST_OK;
}

/* Names and classes of all files; contents of up to 256, evenly spaced. */
status files_identify(source_set *set, const source *s, const char *part)
{
    const uint32_t looked = s->n < 256 ? s->n : 256;
    for (uint32_t i = 0; i < s->n; i++)
        text_printf(&set->identity, "%s %s %" PRId64 "\n", part, s->file[i], s->label ? s->label[i] : -1);
    for (uint32_t k = 0; k < looked; k++) {
        char *path, sha[65] = "unreadable";
        TRY(path_join(&path, s->dir, s->file[(uint64_t)k * s->n / looked]));
        status st = hash_sha256_file(path, sha); /* a file that cannot be read is met again as a bad sample */
        mem_free(path);
        if (st == ST_OOM)
            return st;
        text_printf(&set->identity, "%s\n", st == ST_OK ? sha : "unreadable");
    }
    return set->identity.st;
}

static status load_part(const data_options *o, const char *path, const char *labels, data_part part,
                        source_set *set)
{
    pile p = {.s = &set->part[part], .most = o->lim.samples};
    char **name;
    size_t n;
    if (labels)
        return fail(ST_CONFIG, "%s: an image folder takes its labels from its class folders, not from %s",
                    path, labels);
    if (p.most > UINT32_MAX - 1)
        p.most = UINT32_MAX - 1;
    set->format = "image folder";
    p.s->kind = SOURCE_FILES;
    TRY(mem_strdup(&p.s->place, path));
    TRY(mem_strdup(&p.s->dir, path));
    TRY(io_list(path, p.most, &name, &n));
    status st = collect(&p, path, name, n);
    io_list_free(name, n);
    if (st == ST_OK && p.class[0])
        st = classes_number(set, p.s, p.class);
    mem_free(p.class);
    TRY(st);
    if (p.ignored)
        log_info("%s: %" PRIu32 " files are no images and are ignored", path, p.ignored);
    return files_identify(set, p.s, part == DATA_TRAIN ? "train" : "val");
}

static status load(const data_options *o, const char *path, source_set *set)
{
    char *sub;
    TRY(path_join(&sub, path, "train"));
    if (!io_is_dir(sub)) {
        mem_free(sub);
        return load_part(o, path, NULL, DATA_TRAIN, set);
    }
    status st = load_part(o, sub, NULL, DATA_TRAIN, set);
    mem_free(sub);
    for (size_t i = 0; i < sizeof val_folders / sizeof *val_folders && st == ST_OK && !set->has_val; i++) {
        TRY(path_join(&sub, path, val_folders[i]));
        if (io_is_dir(sub)) {
            st = load_part(o, sub, NULL, DATA_VAL, set);
            set->has_val = true;
        }
        mem_free(sub);
    }
    return st;
}

/* train/ in it, or images, or a folder with images among the first few. */
static status recognise(const char *path, bool is_dir, bool *yes)
{
    char **name, **inner;
    size_t n, m;
    int looked = 0;
    *yes = false;
    if (!is_dir)
        return ST_OK;
    TRY(is_folder(path, "train", yes));
    if (*yes)
        return ST_OK;
    TRY(io_list(path, UINT32_MAX, &name, &n));
    status st = ST_OK;
    for (size_t i = 0; i < n && !*yes && looked < 16 && st == ST_OK; i++) {
        char *sub;
        if (hidden(name[i]))
            continue;
        *yes = image_has_suffix(name[i]);
        if (*yes)
            break;
        st = path_join(&sub, path, name[i]);
        if (st == ST_OK && io_is_dir(sub)) {
            looked++;
            st = io_list(sub, UINT32_MAX, &inner, &m);
            for (size_t k = 0; st == ST_OK && k < m && !*yes; k++)
                *yes = image_has_suffix(inner[k]);
            if (st == ST_OK)
                io_list_free(inner, m);
        }
        mem_free(sub);
    }
    io_list_free(name, n);
    return st;
}

const data_format format_folder = {
    .kind = DATA_FOLDER,
    .looked_for = "a folder train/ with class folders, class folders with images, images",
    .recognise = recognise,
    .load = load,
    .load_part = load_part,
};
