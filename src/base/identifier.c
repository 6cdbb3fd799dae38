#include "base/identifier.h"

#include <string.h>
#include <sys/random.h>

static const char *const adjectives[] = {
    "able",   "amber",  "brave",  "bright", "calm",  "candid",  "clever", "cosmic",  "deft",   "eager", "exact",  "fair",
    "fleet",  "fluent", "frank",  "gentle", "glad",  "golden",  "honest", "humble",  "keen",   "kind",  "lively", "lucid",
    "mellow", "merry",  "modest", "nimble", "noble", "patient", "placid", "polite",  "proud",  "quick", "quiet",  "rapid",
    "ready",  "serene", "sharp",  "silent", "smart", "solid",   "steady", "sturdy",  "subtle", "sunny", "swift",  "tender",
    "tidy",   "trusty", "upbeat", "vivid",  "warm",  "wise",    "witty",  "zealous",
};
static const char *const surnames[] = {
    "abel",     "ampere",    "babbage",    "banach",  "bell",     "bohr",     "boole",    "bose",    "cantor",   "cerf",
    "clarke",   "curie",     "dijkstra",   "dirac",   "einstein", "erdos",    "euclid",   "euler",   "faraday",  "fermat",
    "fermi",    "feynman",   "gauss",      "germain", "godel",    "hamilton", "hawking",  "hilbert", "hopper",   "hypatia",
    "johnson",  "joule",     "kepler",     "knuth",   "lamarr",   "laplace",  "leibniz",  "liskov",  "lovelace", "maxwell",
    "meitner",  "mendel",    "mirzakhani", "nash",    "newton",   "noether",  "pascal",   "pasteur", "perlman",  "planck",
    "poincare", "ramanujan", "ritchie",    "shannon", "tesla",    "thompson", "torvalds", "turing",  "volta",    "wiles",
};

static void random_bytes(void *buffer, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = getrandom((char *)buffer + done, length - done, 0);
        if (n > 0)
            done += (size_t)n;
    }
}

void identifier_new(char ret[IDENTIFIER_LENGTH + 1])
{
    static const char digits[] = "0123456789abcdef";
    do {
        unsigned char raw[IDENTIFIER_LENGTH / 2];
        random_bytes(raw, sizeof raw);
        for (size_t i = 0; i < sizeof raw; i++) {
            ret[2 * i] = digits[raw[i] >> 4];
            ret[2 * i + 1] = digits[raw[i] & 15];
        }
        ret[IDENTIFIER_LENGTH] = '\0';
    } while (strspn(ret, "0123456789") >= IDENTIFIER_SHORT);
}

char *identifier_new_name(int attempt)
{
    guint32 pick[3];
    random_bytes(pick, sizeof pick);
    const char *first = adjectives[pick[0] % G_N_ELEMENTS(adjectives)], *second = surnames[pick[1] % G_N_ELEMENTS(surnames)];
    if (attempt == 0)
        return g_strdup_printf("%s_%s", first, second);
    return g_strdup_printf("%s_%s%u", first, second, pick[2] % 10);
}

bool identifier_is_name(const char *text)
{
    if (!text || !g_ascii_isalnum(text[0]) || !text[1])
        return false;
    for (const char *c = text; *c; c++)
        if (!g_ascii_isalnum(*c) && !strchr("_.-", *c))
            return false;
    return true;
}
