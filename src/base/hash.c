/* hash.c - SHA-256 and XXH3. */
#include "base/hash.h"
#include "base/io.h"

#include <openssl/evp.h>
#include <stdbool.h>
#include <string.h>
#include <xxhash.h>

static void to_hex(const unsigned char *digest, char out[65])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 32; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[64] = 0;
}

status hash_sha256_hex(const void *data, size_t n, char out[65])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    if (EVP_Digest(data, n, digest, NULL, EVP_sha256(), NULL) != 1)
        return fail(ST_INTERNAL, "OpenSSL cannot compute SHA-256");
    to_hex(digest, out);
    return ST_OK;
}

/* H((key ^ opad) || H((key ^ ipad) || message)), blocks of 64 bytes (RFC 2104). */
status hash_hmac_hex(const void *key, size_t key_n, const void *data, size_t n, const void *data2, size_t n2, char out[65])
{
    unsigned char pad[64] = {0}, digest[EVP_MAX_MD_SIZE];
    const void *piece[2] = {data, data2};
    size_t size[2] = {n, n2};
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && key_n <= sizeof pad;
    if (ok)
        memcpy(pad, key, key_n);
    for (int pass = 0; ok && pass < 2; pass++) {
        for (int i = 0; i < 64; i++)
            pad[i] ^= pass == 0 ? 0x36 : 0x36 ^ 0x5c;
        ok = EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 && EVP_DigestUpdate(ctx, pad, sizeof pad) == 1;
        for (int i = 0; ok && pass == 0 && i < 2; i++)
            ok = !size[i] || EVP_DigestUpdate(ctx, piece[i], size[i]) == 1;
        if (ok && pass == 1)
            ok = EVP_DigestUpdate(ctx, digest, 32) == 1;
        ok = ok && EVP_DigestFinal_ex(ctx, digest, NULL) == 1;
    }
    EVP_MD_CTX_free(ctx);
    if (!ok)
        return fail(ST_INTERNAL, "OpenSSL cannot compute HMAC-SHA-256 (keys are 64 bytes at most)");
    to_hex(digest, out);
    return ST_OK;
}

static status update(const void *data, size_t n, void *ctx)
{
    if (EVP_DigestUpdate(ctx, data, n) != 1)
        return fail(ST_INTERNAL, "OpenSSL cannot compute SHA-256");
    return ST_OK;
}

status hash_sha256_file(const char *path, char out[65])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    status st = ST_OK;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1) {
        st = fail(ST_INTERNAL, "OpenSSL cannot compute SHA-256");
        goto done;
    }
    TRY_DONE(io_read_chunks(path, update, ctx));
    if (EVP_DigestFinal_ex(ctx, digest, NULL) != 1) {
        st = fail(ST_INTERNAL, "OpenSSL cannot compute SHA-256");
        goto done;
    }
    to_hex(digest, out);
done:
    EVP_MD_CTX_free(ctx);
    return st;
}

uint64_t hash_xxh3(const void *data, size_t n)
{
    return XXH3_64bits(data, n);
}
