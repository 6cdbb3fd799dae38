/* --push, --output type=image,push=true and type=registry: what was built goes to a registry, for several platforms as a list. */
#include "cli/build-internal.h"

#include <string.h>

/* "localhost:5000/a" → "localhost:5000/a:latest" */
static char *with_tag(const char *name)
{
    const char *colon = strrchr(name, ':');

    return colon && !strchr(colon, '/') ? g_strdup(name) : g_strconcat(name, ":latest", NULL);
}

bool build_tag_image(struct cli *cli, const char *image, const char *name, GError **error)
{
    g_autofree char *full = with_tag(name), *path = api_path("images", image, "/tag");
    char *colon = strrchr(full, ':');
    g_autoptr(GString) query = g_string_new(NULL);

    *colon = '\0';
    query_add(query, "repo", full);
    query_add(query, "tag", colon + 1);
    struct call call = { .method = "POST", .path = path, .query = query->str };

    return api_done(cli, &call, error);
}

static void take_digest(const json_t *aux, void *user)
{
    json_t **found = user;
    const char *digest = json_get_string(aux, "Digest", NULL);

    if (!digest)
        return;
    json_decref(*found);
    *found = json_pack("{s:s, s:s, s:I}", "mediaType", "application/vnd.docker.distribution.manifest.v2+json", "digest", digest,
                       "size", (json_int_t)json_get_int(aux, "Size", 0));
}

static bool push(struct cli *cli, const char *repository, const char *key, const char *value, json_t **ret, GError **error)
{
    g_autofree char *path = api_path("images", repository, "/push"), *auth = registry_auth_header(cli, repository);
    g_autoptr(GString) query = g_string_new(NULL);
    const char *const headers[] = { "X-Registry-Auth", auth, NULL };
    struct progress_options output = { .fd = STDERR_FILENO, .aux = take_digest, .user = ret };

    *ret = NULL;
    query_add(query, key, value);
    struct call call = { .method = "POST", .path = path, .query = query->str, .headers = headers };
    g_autoptr(response_t) response = api_call(cli, &call, error);

    return response && progress_show(response, &output, NULL, error);
}

/* *ret: what the registry has now; NULL where it does not say. */
static bool push_one(struct cli *cli, const char *full, json_t **ret, GError **error)
{
    const char *colon = strrchr(full, ':');
    g_autofree char *repository = g_strndup(full, (gsize)(colon - full));

    return push(cli, repository, "tag", colon + 1, ret, error);
}

static char *push_by_digest(struct cli *cli, const char *image, const char *repository, GError **error)
{
    g_autoptr(json_t) pushed = NULL;
    const char *digest;

    if (!push(cli, repository, "image", image, &pushed, error))
        return NULL;
    digest = json_get_string(pushed, "digest", NULL);
    if (!digest)
        error_set(error, TARE_ERROR_INTERNAL, "the engine did not say what it pushed to %s", repository);
    return g_strdup(digest);
}

json_t *build_push_each(struct cli *cli, const GPtrArray *images, const char *repository, GError **error)
{
    g_autoptr(json_t) manifests = json_array();

    for (guint i = 0; i < images->len; i++) {
        g_autofree char *digest = push_by_digest(cli, images->pdata[i], repository, error), *reference = NULL;
        json_t *manifest;

        if (!digest)
            return NULL;
        reference = g_strconcat(repository, "@", digest, NULL);
        manifest = manifest_fetch(cli, reference, false, error);
        if (!manifest)
            return NULL;
        json_array_append_new(manifests, manifest);
    }
    return g_steal_pointer(&manifests);
}

/* The images go there under their digests alone, so that nobody who pulls the name meanwhile gets one platform for another; then
 * the list takes the name. Here the name is the first one's. */
static bool push_list(struct cli *cli, const struct build_result *result, const char *full, json_t **ret, GError **error)
{
    g_autofree char *normal = manifest_normalize(full, error);
    g_autofree char *repository = normal ? g_strndup(normal, (gsize)(strrchr(normal, ':') - normal)) : NULL;
    g_autoptr(json_t) manifests = repository ? build_push_each(cli, result->images, repository, error) : NULL;

    return manifests && manifest_push_list(cli, normal, manifests, ret, error) &&
           build_tag_image(cli, result->images->pdata[0], full, error);
}

bool build_push(struct cli *cli, struct build_result *result, const char *const *names, GError **error)
{
    if (!names || !*names)
        return error_set(error, TARE_ERROR_INVALID, "tag is needed when pushing to registry");
    for (; *names; names++) {
        g_autofree char *full = with_tag(*names);
        json_t *pushed = NULL;
        bool ok = result->platforms[1]
                      ? push_list(cli, result, full, &pushed, error)
                      : build_tag_image(cli, result->images->pdata[0], full, error) && push_one(cli, full, &pushed, error);

        if (!ok) {
            json_decref(pushed);
            return false;
        }
        json_decref(result->pushed);
        result->pushed = pushed;
    }
    return true;
}
