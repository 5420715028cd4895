/* cache_file.h - the folder of teacher outputs: one file for each (key, view), of records of one size.
 *
 * NAME.taps: a head of 4096 bytes, then record r of sample r of the source. A record is
 *     uint64 check   XXH3 of what follows; a record that nobody wrote is all zero
 *     uint64 row     its own number
 *     uint64 input   XXH3 of the teacher's input
 *     payload        the outputs, as cache_code.h packs them
 * Nothing is synced and nobody waits for another writer: a record that is torn, damaged or of another row fails its check
 * and counts as missing. Two writers of a file write the same bytes, for the key holds all that they depend on.
 * The sizes of all files together stay within a limit: who opens one first removes those that were opened longest ago and
 * that no process has open; what does not fit even so is not kept. Changes of the folder happen under its lock. */
#ifndef DISTILL_DISTILL_CACHE_FILE_H
#define DISTILL_DISTILL_CACHE_FILE_H

#include "base/io_shared.h"
#include "base/mem.h"
#include "base/text.h"

#define CACHE_HEAD        4096
#define CACHE_RECORD_HEAD 24
#define CACHE_ABOUT       512

typedef struct cache_file {
    int fd; /* -1: closed */
    char *path;
    size_t record;
    uint32_t rows; /* that it has room for; may be fewer than were asked for */
    bool made;     /* it was empty: there is nothing to read */
} cache_file;

/* Opens DIR/KEY.taps with room for as many of `rows` records as `limit` bytes for the whole folder allow (rows 0 in *out:
 * none; then nothing is open). `about`: one line for people. A head that is damaged or of another record size makes the
 * file empty. */
MUST_USE status cache_file_open(const char *dir, uint64_t limit, const char *key, const char *about, size_t record,
                                uint32_t rows, cache_file *out);
void cache_file_close(cache_file *f); /* zeroed ones too */
/* Records [first, first + n) into `to`; *got whole ones were read (fewer at the end of the file). */
MUST_USE status cache_file_read(const cache_file *f, uint32_t first, uint32_t n, void *to, uint32_t *got);
MUST_USE status cache_file_write(const cache_file *f, uint32_t row, const void *record);

typedef enum record_state { RECORD_MISSING, RECORD_WHOLE, RECORD_DAMAGED } record_state;
void cache_record_seal(void *record, size_t bytes, uint32_t row, uint64_t input); /* the payload stands */
record_state cache_record_state(const void *record, size_t bytes, uint32_t row);
uint64_t cache_record_input(const void *record);

/* ---- for `distill cache` ---- */

typedef struct cache_entry {
    const char *name, *about; /* about "": the head is damaged */
    io_facts facts;
    bool in_use;
} cache_entry;
/* The folder's files, the ones opened last first; texts and array live in mem. A missing folder is empty. */
MUST_USE status cache_list(const char *dir, arena *mem, cache_entry **at, size_t *n);
/* Removes all that nobody has open. */
MUST_USE status cache_clean(const char *dir, size_t *removed, uint64_t *bytes, size_t *kept);

#endif
