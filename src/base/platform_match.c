/* Platforms: what an index offers against what is wanted, with containerd's rules: a processor runs what its older siblings run.
 */
#include "base/platform.h"

#include "base/error.h"

#include <string.h>

void platform_clear(struct platform *platform)
{
    g_clear_pointer(&platform->os, g_free);
    g_clear_pointer(&platform->architecture, g_free);
    g_clear_pointer(&platform->variant, g_free);
}

/* Other names of the same. */
static void normalise_architecture(struct platform *platform)
{
    static const struct {
        const char *name, *architecture, *variant; /* variant: NULL leaves it */
    } names[] = { { "x86_64", "amd64", NULL }, { "x86-64", "amd64", NULL }, { "aarch64", "arm64", NULL },
                  { "i386", "386", "" },       { "armhf", "arm", "v7" },    { "armel", "arm", "v6" } };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (strcmp(platform->architecture, names[i].name) != 0)
            continue;
        g_free(platform->architecture);
        platform->architecture = g_strdup(names[i].architecture);
        if (!names[i].variant)
            return;
        g_free(platform->variant);
        platform->variant = g_strdup(names[i].variant);
        return;
    }
}

static void normalise(struct platform *platform)
{
    static const struct {
        const char *architecture, *variant, *normal;
    } variants[] = { { "arm64", "v8", "" }, { "arm64", "8", "" }, { "arm64", "v8.0", "" }, { "arm64", "9", "v9" },
                     { "arm", "", "v7" },   { "arm", "7", "v7" }, { "arm", "6", "v6" },    { "arm", "5", "v5" },
                     { "arm", "8", "v8" },  { "amd64", "v1", "" } };
    normalise_architecture(platform);
    for (size_t i = 0; i < G_N_ELEMENTS(variants); i++)
        if (strcmp(platform->architecture, variants[i].architecture) == 0 &&
            strcmp(platform->variant, variants[i].variant) == 0) {
            g_free(platform->variant);
            platform->variant = g_strdup(variants[i].normal);
            return;
        }
}

static bool is_architecture(const char *text)
{
    static const char *const known[] = { "386",      "amd64",     "amd64p32",    "arm",     "armbe",   "arm64",  "arm64be",
                                         "ppc",      "ppc64",     "ppc64le",     "loong64", "mips",    "mipsle", "mips64",
                                         "mips64le", "mips64p32", "mips64p32le", "riscv",   "riscv64", "s390",   "s390x",
                                         "sparc",    "sparc64",   "wasm",        NULL };
    return g_strv_contains(known, text);
}

static bool is_os(const char *text)
{
    static const char *const known[] = { "aix",     "android", "darwin",  "dragonfly", "freebsd", "hurd",    "illumos",
                                         "ios",     "js",      "linux",   "nacl",      "netbsd",  "openbsd", "plan9",
                                         "solaris", "wasip1",  "windows", "zos",       NULL };
    return g_strv_contains(known, text);
}

static bool is_part(const char *text)
{
    return *text && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == strlen(text);
}

/* One word is an operating system or an architecture, whichever is known. */
static bool parse_word(const char *text, const char *word, struct platform *ret, GError **error)
{
    if (is_os(word)) {
        *ret = (struct platform){ g_strdup(word), g_strdup(platform_architecture()), g_strdup("") };
        return true;
    }
    struct platform platform = { g_strdup("linux"), g_strdup(word), g_strdup("") };
    normalise(&platform);
    if (is_architecture(platform.architecture)) {
        *ret = platform;
        return true;
    }
    platform_clear(&platform);
    return error_set(error, TARE_ERROR_INVALID, "\"%s\": unknown operating system or architecture: invalid argument", text);
}

/* How it is written: containerd leaves out the variants that go without saying, where they were not given. */
static void set_variant(struct platform *platform, const char *variant)
{
    g_free(platform->variant);
    platform->variant = g_strdup(variant);
}

bool platform_parse(const char *text, struct platform *ret, GError **error)
{
    if (!text || !*text) {
        *ret = (struct platform){ g_strdup("linux"), g_strdup(platform_architecture()), g_strdup("") };
        return true;
    }
    if (strchr(text, '*'))
        return error_set(error, TARE_ERROR_INVALID, "\"%s\": wildcards not yet supported: invalid argument", text);
    g_autofree char *small = g_ascii_strdown(text, -1);
    g_auto(GStrv) parts = g_strsplit(small, "/", 4);
    guint n = g_strv_length(parts);
    for (guint i = 0; i < n; i++)
        if (!is_part(parts[i]))
            return error_set(error, TARE_ERROR_INVALID,
                             "\"%s\" is an invalid component of \"%s\": platform specifier component must match "
                             "\"^[A-Za-z0-9_.-]+$\": invalid argument",
                             parts[i], text);
    if (n > 3)
        return error_set(error, TARE_ERROR_INVALID, "\"%s\": cannot parse platform specifier: invalid argument", text);
    if (n == 1 && !parse_word(text, parts[0], ret, error))
        return false;
    if (n > 1) {
        *ret = (struct platform){ g_strdup(strcmp(parts[0], "macos") == 0 ? "darwin" : parts[0]), g_strdup(parts[1]),
                                  g_strdup(n > 2 ? parts[2] : "") };
        normalise(ret);
    }
    if (n < 3 && strcmp(ret->architecture, "arm") == 0 && strcmp(ret->variant, "v7") == 0)
        set_variant(ret, "");
    if (n == 3 && strcmp(ret->architecture, "arm64") == 0 && !*ret->variant)
        set_variant(ret, "v8");
    return true;
}

json_t *platform_to_json(const struct platform *platform)
{
    json_t *object = json_pack("{s:s, s:s}", "architecture", platform->architecture, "os", platform->os);
    if (*platform->variant)
        json_object_set_new(object, "variant", json_string(platform->variant));
    return object;
}

char *platform_text(const struct platform *platform)
{
    return g_strconcat(platform->os, "/", platform->architecture, *platform->variant ? "/" : "", platform->variant, NULL);
}

void platform_from_json(const json_t *object, struct platform *ret)
{
    *ret = (struct platform){ g_strdup(json_get_string(object, "os", "")), g_strdup(json_get_string(object, "architecture", "")),
                              g_strdup(json_get_string(object, "variant", "")) };
}

/* "v7" → 7; 0 where it is none. */
static unsigned variant_number(const char *variant)
{
    return variant[0] == 'v' && g_ascii_isdigit(variant[1]) && !variant[2] ? (unsigned)(variant[1] - '0') : 0;
}

/* 9 is the same, less the older; 0: cannot run. */
static unsigned variant_score(const char *architecture, const char *wanted, const char *given)
{
    if (strcmp(wanted, given) == 0)
        return 9;
    unsigned most = variant_number(wanted), one = variant_number(given);
    bool counts = strcmp(architecture, "arm") == 0 || strcmp(architecture, "amd64") == 0 || strcmp(architecture, "arm64") == 0;
    if (!counts || (*given && !one) || (*wanted && !most))
        return 0;
    unsigned base = strcmp(architecture, "arm64") == 0 ? 8 : 1;
    most = most ? most : base;
    one = one ? one : base;
    return one <= most && most - one < 8 ? 9 - (most - one) : 0;
}

static unsigned score(const struct platform *wanted, const struct platform *given)
{
    if (strcmp(wanted->os, given->os) != 0)
        return 0;
    if (strcmp(wanted->architecture, given->architecture) == 0) {
        unsigned same = variant_score(wanted->architecture, wanted->variant, given->variant);
        return same ? 10 + same : 0;
    }
    if (strcmp(wanted->architecture, "amd64") == 0 && strcmp(given->architecture, "386") == 0)
        return 1;
    if (strcmp(wanted->architecture, "arm64") == 0 && strcmp(given->architecture, "arm") == 0)
        return variant_score("arm", "v8", given->variant);
    return 0;
}

static struct platform normal(const struct platform *platform)
{
    struct platform copy = { g_strdup(platform->os), g_strdup(platform->architecture), g_strdup(platform->variant) };
    normalise(&copy);
    return copy;
}

unsigned platform_score(const struct platform *wanted, const struct platform *given)
{
    struct platform normal_wanted = normal(wanted), normal_given = normal(given);
    unsigned result = score(&normal_wanted, &normal_given);
    platform_clear(&normal_wanted);
    platform_clear(&normal_given);
    return result;
}

const json_t *platform_choose(const json_t *index, const struct platform *wanted)
{
    const json_t *best = NULL;
    unsigned best_score = 0;
    size_t i;
    json_t *entry;
    json_array_foreach(json_get_array(index, "manifests"), i, entry)
    {
        struct platform given;
        const json_t *platform = json_get_object(entry, "platform");
        if (!platform)
            continue;
        platform_from_json(platform, &given);
        unsigned fit = platform_score(wanted, &given);
        if (fit > best_score) {
            best_score = fit;
            best = entry;
        }
        platform_clear(&given);
    }
    return best;
}
