#include "layer/erofs-internal.h"

#include <string.h>
#include <sys/auxv.h>

/* SipHash-1-3 (Aumasson and Bernstein): names come from strangers, who would otherwise choose a million that fall into one
 * bucket. The key is the process's own random bytes, which the kernel gave at exec: a confined worker has no system call for
 * more. */
static inline guint64 rotate(guint64 value, unsigned bits)
{
    return value << bits | value >> (64 - bits);
}

struct sip {
    guint64 a, b, c, d;
};

static inline void sip_round(struct sip *s)
{
    s->a += s->b;
    s->b = rotate(s->b, 13) ^ s->a;
    s->a = rotate(s->a, 32);
    s->c += s->d;
    s->d = rotate(s->d, 16) ^ s->c;
    s->a += s->d;
    s->d = rotate(s->d, 21) ^ s->a;
    s->c += s->b;
    s->b = rotate(s->b, 17) ^ s->c;
    s->c = rotate(s->c, 32);
}

static inline void sip_word(struct sip *s, guint64 word)
{
    s->d ^= word;
    sip_round(s);
    s->a ^= word;
}

guint64 keyed_hash(guint64 salt, const void *data, gsize length)
{
    guint64 key[2] = { 0, 0 };
    const void *random = (const void *)(uintptr_t)getauxval(AT_RANDOM);
    if (random)
        memcpy(key, random, sizeof key);
    struct sip s = { key[0] ^ G_GUINT64_CONSTANT(0x736f6d6570736575), key[1] ^ G_GUINT64_CONSTANT(0x646f72616e646f6d),
                     key[0] ^ G_GUINT64_CONSTANT(0x6c7967656e657261), key[1] ^ G_GUINT64_CONSTANT(0x7465646279746573) };
    const guint8 *at = data;
    gsize left = length;
    sip_word(&s, salt);
    for (; left >= 8; at += 8, left -= 8)
        sip_word(&s, get64(at));
    guint64 last = (guint64)length << 56;
    for (gsize i = 0; i < left; i++)
        last |= (guint64)at[i] << (8 * i);
    sip_word(&s, last);
    s.c ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(&s);
    return s.a ^ s.b ^ s.c ^ s.d;
}

guint keyed_hash_text(gconstpointer text)
{
    return (guint)keyed_hash(0, text, strlen(text));
}
