/* What this machine is called in images and in the API. */
#pragma once

#include "base/json.h"

/* Go's name of the host's architecture (GOARCH): "amd64", "arm64" …; the kernel's own name where Go has none that we know.
 * Static. */
const char *platform_architecture(void);

/* ---- platforms that are asked for, and that images are for: containerd's rules. Pure. ---- */
struct platform {
    char *os, *architecture, *variant; /* variant: "" where it says nothing */
};
void platform_clear(struct platform *platform);
/* "linux/arm64/v8", "arm64", "linux"; NULL or "": the host's. INVALID with containerd's words. */
bool platform_parse(const char *text, struct platform *ret, GError **error);
/* "linux/arm64/v8"; g_free. */
char *platform_text(const struct platform *platform);
/* As newer endpoints take it: {"architecture":…,"os":…,"variant":…}. */
json_t *platform_to_json(const struct platform *platform);
/* From an image's config or an index's entry. */
void platform_from_json(const json_t *object, struct platform *ret);
/* How well an image for `given` runs on `wanted`: 0 not at all, more is better. */
#define PLATFORM_SAME 19 /* the most: one and the same */
unsigned platform_score(const struct platform *wanted, const struct platform *given);
/* The best entry of an index, borrowed; NULL where none fits. */
const json_t *platform_choose(const json_t *index, const struct platform *wanted);
