/* zip.h - inside src/data: zip archives as npz uses them.
 *
 * Reads members that are stored or deflated, sizes from the central directory (zip64 too), CRC checked;
 * nothing is ever written to disk under a member's name. Writes the same two methods with fixed time stamps,
 * so that equal arrays give equal bytes. Format: PKWARE APPNOTE 6.3.9, sections 4.3 and 4.5.3. */
#ifndef DISTILL_DATA_ZIP_H
#define DISTILL_DATA_ZIP_H

#include "base/io.h"
#include "base/limits.h"
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

bool zip_is(const unsigned char *bytes, size_t n);

typedef struct zip_member {
    char *name;
    uint64_t packed, size, offset; /* offset: of the local header */
    uint32_t crc;
    unsigned method, flags;
} zip_member;
typedef struct zip_archive {
    const char *path; /* for messages */
    const unsigned char *bytes;
    size_t n, members, budget; /* budget: bytes that may still be unpacked */
    zip_member *at;
} zip_archive;
/* Reads the directory. `bytes` is borrowed until zip_close. Refuses encrypted members, names with "..",
 * duplicates. */
MUST_USE status zip_open(zip_archive *z, const char *path, const unsigned char *bytes, size_t n,
                         const limits *lim);
void zip_close(zip_archive *z);
/* Contents of one member; caller frees with mem_free. */
MUST_USE status zip_extract(zip_archive *z, size_t member, unsigned char **out, size_t *out_n);

typedef struct zip_writer {
    file_writer file;
    uint64_t offset;
    zip_member *at;
    size_t members, cap;
} zip_writer;
MUST_USE status zip_begin(zip_writer *w, const char *path);
/* One member: `head` then `data`. */
MUST_USE status zip_add(zip_writer *w, const char *name, const void *head, size_t head_n, const void *data,
                        size_t n, bool deflated);
MUST_USE status zip_finish(zip_writer *w); /* directory, commit; frees the writer also on failure */
void zip_abandon(zip_writer *w);           /* safe after zip_finish */

#endif
