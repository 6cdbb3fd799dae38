/* Platforms: what an index offers against what is wanted, with containerd's rules: a processor runs what its older siblings run.
 */
#include "registry/registry-internal.h"

#include "base/platform.h"

#include <string.h>

void platform_clear(struct platform *platform)
{
    g_clear_pointer(&platform->os, g_free);
    g_clear_pointer(&platform->architecture, g_free);
    g_clear_pointer(&platform->variant, g_free);
}

/* Other names of the same. */
static void normalise(struct platform *platform)
{
    static const struct {
        const char *name, *architecture, *variant;
    } names[] = { { "x86_64", "amd64", "" }, { "x86-64", "amd64", "" }, { "aarch64", "arm64", "" }, { "i386", "386", "" },
                  { "i686", "386", "" },     { "armhf", "arm", "v7" },  { "armel", "arm", "v6" } };
    static const struct {
        const char *architecture, *variant, *normal;
    } variants[] = { { "arm64", "v8", "" }, { "arm64", "8", "" }, { "arm", "", "v7" },  { "arm", "7", "v7" },
                     { "arm", "6", "v6" },  { "arm", "5", "v5" }, { "arm", "8", "v8" }, { "amd64", "v1", "" } };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        if (g_ascii_strcasecmp(platform->architecture, names[i].name) == 0) {
            g_free(platform->architecture);
            platform->architecture = g_strdup(names[i].architecture);
            if (*names[i].variant) {
                g_free(platform->variant);
                platform->variant = g_strdup(names[i].variant);
            }
        }
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
    static const char *const known[] = { "386",    "amd64",   "arm",      "arm64",   "ppc64", "ppc64le", "mips",
                                         "mipsle", "mips64",  "mips64le", "riscv64", "s390x", "wasm",    "loong64",
                                         "x86_64", "aarch64", "x86-64",   "armhf",   "armel", "i386",    NULL };
    return g_strv_contains(known, text);
}

static bool is_os(const char *text)
{
    static const char *const known[] = { "linux",   "windows", "darwin", "freebsd", "netbsd", "openbsd",
                                         "solaris", "android", "js",     "wasip1",  NULL };
    return g_strv_contains(known, text);
}

static bool is_part(const char *text)
{
    return *text && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == strlen(text);
}

bool platform_parse(const char *text, struct platform *ret, GError **error)
{
    if (!text || !*text) {
        *ret = (struct platform){ g_strdup("linux"), g_strdup(platform_architecture()), g_strdup("") };
        normalise(ret);
        return true;
    }
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
    if (n == 1 && !is_os(parts[0]) && !is_architecture(parts[0]))
        return error_set(error, TARE_ERROR_INVALID, "\"%s\": unknown operating system or architecture: invalid argument", text);
    bool only_architecture = n == 1 && is_architecture(parts[0]);
    *ret = (struct platform){
        .os = g_strdup(only_architecture ? "linux" : parts[0]),
        .architecture = g_strdup(only_architecture ? parts[0]
                                 : n > 1           ? parts[1]
                                                   : platform_architecture()),
        .variant = g_strdup(n > 2 ? parts[2] : ""),
    };
    normalise(ret);
    return true;
}

char *platform_text(const struct platform *platform)
{
    return g_strconcat(platform->os, "/", platform->architecture, *platform->variant ? "/" : "", platform->variant, NULL);
}

void platform_from_json(const json_t *object, struct platform *ret)
{
    *ret = (struct platform){ g_strdup(json_get_string(object, "os", "")), g_strdup(json_get_string(object, "architecture", "")),
                              g_strdup(json_get_string(object, "variant", "")) };
    normalise(ret);
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

unsigned platform_score(const struct platform *wanted, const struct platform *given)
{
    if (strcmp(wanted->os, given->os) != 0)
        return 0;
    if (strcmp(wanted->architecture, given->architecture) == 0) {
        unsigned score = variant_score(wanted->architecture, wanted->variant, given->variant);
        return score ? 10 + score : 0;
    }
    if (strcmp(wanted->architecture, "amd64") == 0 && strcmp(given->architecture, "386") == 0)
        return 1;
    if (strcmp(wanted->architecture, "arm64") == 0 && strcmp(given->architecture, "arm") == 0)
        return variant_score("arm", "v8", given->variant);
    return 0;
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
        unsigned score = platform_score(wanted, &given);
        if (score > best_score) {
            best_score = score;
            best = entry;
        }
        platform_clear(&given);
    }
    return best;
}
