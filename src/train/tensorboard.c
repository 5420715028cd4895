/* tensorboard.c - TensorBoard event files, written by hand: a record is its length, the length's CRC, an Event message in
 * protobuf wire format, and its CRC (masked CRC-32C, as in TFRecord files). Read back by TensorBoard itself in the tests. */
#include "base/io.h"
#include "base/mem.h"
#include "train/metrics.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint32_t crc32c(const unsigned char *data, size_t n)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0x82F63B78u & (0u - (crc & 1)));
    }
    return ~crc;
}

static uint32_t masked_crc(const unsigned char *data, size_t n)
{
    uint32_t crc = crc32c(data, n);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static void add_fixed(text *t, uint64_t v, int bytes)
{
    unsigned char b[8];
    for (int i = 0; i < bytes; i++)
        b[i] = (unsigned char)(v >> (8 * i));
    text_add_n(t, b, (size_t)bytes);
}

static void add_varint(text *t, uint64_t v)
{
    unsigned char b[10];
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        b[n++] = (unsigned char)(v | 0x80);
    b[n++] = (unsigned char)v;
    text_add_n(t, b, n);
}

static void add_tag(text *t, unsigned field, unsigned wire)
{
    add_varint(t, field << 3 | wire);
}

static void add_bytes(text *t, unsigned field, const void *data, size_t n)
{
    add_tag(t, field, 2);
    add_varint(t, n);
    text_add_n(t, data, n);
}

/* Event: 1 wall_time (double), 2 step (int64), 3 file_version (string), 5 summary. */
static void begin_event(text *t, double when, uint64_t step)
{
    uint64_t bits;
    memcpy(&bits, &when, sizeof bits);
    add_tag(t, 1, 1);
    add_fixed(t, bits, 8);
    add_tag(t, 2, 0);
    add_varint(t, step);
}

static status append_record(int fd, const text *event)
{
    text record = {0};
    add_fixed(&record, event->n, 8);
    uint32_t crc = record.st == ST_OK ? masked_crc((unsigned char *)record.s, 8) : 0;
    add_fixed(&record, crc, 4);
    text_add_n(&record, event->s, event->n);
    add_fixed(&record, masked_crc((const unsigned char *)event->s, event->n), 4);
    status st = event->st != ST_OK ? event->st : record.st;
    if (st == ST_OK)
        st = io_append(fd, record.s, record.n);
    text_free(&record);
    return st;
}

status tensorboard_open(const char *dir, int *fd)
{
    char host[256] = "host";
    const char *path;
    arena mem = {0};
    text event = {0};
    status st = ST_OK;
    *fd = -1;
    (void)gethostname(host, sizeof host - 1);
    TRY_DONE(arena_printf(&mem, &path, "%s/events.out.tfevents.%lld.%s.%ld", dir, (long long)time(NULL), host,
                          (long)getpid()));
    TRY_DONE(io_open_append(path, fd));
    begin_event(&event, (double)time(NULL), 0);
    add_bytes(&event, 3, "brain.Event:2", 13);
    st = append_record(*fd, &event);
done:
    text_free(&event);
    arena_free(&mem);
    return st;
}

status tensorboard_scalars(int fd, double when, uint64_t step, const metric *at, size_t n)
{
    text event = {0}, summary = {0}, value = {0};
    for (size_t i = 0; i < n; i++) {
        char tag[256];
        float f = (float)at[i].value;
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        snprintf(tag, sizeof tag, "%s", at[i].name);
        for (char *c = tag; *c; c++)
            *c = *c == '.' ? '/' : *c;
        value.n = 0; /* Summary.Value: 1 tag, 2 simple_value (float) */
        add_bytes(&value, 1, tag, strlen(tag));
        add_tag(&value, 2, 5);
        add_fixed(&value, bits, 4);
        add_bytes(&summary, 1, value.s, value.n);
    }
    begin_event(&event, when, step);
    add_bytes(&event, 5, summary.s, summary.n);
    if (value.st != ST_OK || summary.st != ST_OK)
        event.st = ST_OOM;
    status st = append_record(fd, &event);
    text_free(&value);
    text_free(&summary);
    text_free(&event);
    return st;
}
