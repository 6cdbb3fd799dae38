/* image pull and push. */
#include "cli/cli-internal.h"

#include <string.h>
#include <unistd.h>

bool image_pull(struct cli *cli, const char *image, const char *platform, bool all, const struct progress_options *output,
                GError **error)
{
    struct image_name name = { 0 };
    if (!image_name_parse(image, &name, error))
        return false;
    g_autofree char *auth = registry_auth_header(cli, image);
    const char *const headers[] = { "X-Registry-Auth", auth, NULL };
    g_autoptr(GString) query = g_string_new(NULL);
    query_add(query, "fromImage", name.name);
    if (!all)
        query_add(query, "tag", name.digest ? name.digest : name.tag ? name.tag : "latest");
    query_add(query, "platform", platform && *platform ? platform : NULL);
    image_name_clear(&name);
    struct call call = { .method = "POST", .path = "/images/create", .query = query->str, .headers = headers };
    g_autoptr(response_t) response = api_call(cli, &call, error);
    return response && progress_show(response, output, NULL, error);
}

int cmd_image_pull(struct cli *cli, const struct options *options, GError **error)
{
    bool all = options_bool(options, "all-tags", false), quiet = options_bool(options, "quiet", false);
    struct image_name name = { 0 };
    if (!image_name_parse(options->args[0], &name, error))
        return 1;
    bool named = name.tag || name.digest;
    if (all && named) {
        image_name_clear(&name);
        return error_set(error, TARE_ERROR_INVALID, "tag can't be used with --all-tags/-a"), 1;
    }
    if (!all && !named) {
        name.tag = g_strdup("latest");
        if (!quiet)
            print("Using default tag: latest\n");
    }
    fflush(stdout);
    g_autofree char *full = image_name_canonical(&name);
    image_name_clear(&name);
    struct progress_options output = { .fd = STDOUT_FILENO, .quiet = quiet };
    const char *platform = options_string(options, "platform", g_getenv("DOCKER_DEFAULT_PLATFORM"));
    if (!image_pull(cli, full, platform, all, &output, error))
        return 1;
    print("%s\n", full);
    return 0;
}

/* Whether one of its tags is the name, or (ending in ":") one of the name's. */
static bool is_tagged(const json_t *image, const char *name)
{
    size_t i;
    json_t *tag;
    json_array_foreach(json_get_array(image, "RepoTags"), i, tag)
    {
        const char *text = json_is_string(tag) ? json_string_value(tag) : "";
        if (g_str_has_suffix(name, ":") ? g_str_has_prefix(text, name) : strcmp(text, name) == 0)
            return true;
    }
    return false;
}

/* An image that was pulled from elsewhere goes on as the very blobs that it came as, and these may need credentials there. */
static char *auths_of_sources(struct cli *cli, const char *name)
{
    if (!credentials_any(cli))
        return NULL;
    g_autoptr(json_t) images = api_get(cli, "/images/json", NULL, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    size_t i, j;
    json_t *image, *digest;
    json_array_foreach(images, i, image)
    {
        if (is_tagged(image, name))
            json_array_foreach(json_get_array(image, "RepoDigests"), j, digest) if (json_is_string(digest))
                g_ptr_array_add(names, (gpointer)json_string_value(digest));
    }
    g_ptr_array_add(names, NULL);
    return registry_auths_header_of(cli, (const char *const *)names->pdata, name);
}

int cmd_image_push(struct cli *cli, const struct options *options, GError **error)
{
    bool all = options_bool(options, "all-tags", false), quiet = options_bool(options, "quiet", false);
    struct image_name name = { 0 };
    if (!image_name_parse(options->args[0], &name, error))
        return 1;
    bool named = name.tag || name.digest;
    g_autofree char *full = image_name_canonical(&name), *auth = registry_auth_header(cli, options->args[0]),
                    *path = api_path("images", name.name, "/push");
    g_autoptr(GString) query = g_string_new(NULL);
    if (!all)
        query_add(query, "tag", name.tag ? name.tag : "latest");
    query_add(query, "compression", options_string(options, "compression", NULL));
    g_autofree char *pushed = g_strconcat(name.name, ":", all ? "" : name.tag ? name.tag : "latest", NULL);
    image_name_clear(&name);
    const char *platform = options_string(options, "platform", NULL);
    if (!query_add_platform(query, "platform", platform, error)) {
        print_error("Invalid platform %s", platform);
        return 1;
    }
    if (all && named)
        return error_set(error, TARE_ERROR_INVALID, "tag can't be used with --all-tags/-a"), 1;
    if (!all && !named && !quiet)
        print("Using default tag: latest\n");
    g_autofree char *sources = auths_of_sources(cli, pushed);
    const char *const headers[] = { "X-Registry-Auth", auth, sources ? "X-Registry-Config" : NULL, sources, NULL };
    struct call call = { .method = "POST", .path = path, .query = query->str, .headers = headers };
    g_autoptr(response_t) response = api_call(cli, &call, error);
    struct progress_options output = { .fd = STDOUT_FILENO, .quiet = quiet };
    if (!response || !progress_show(response, &output, NULL, error))
        return 1;
    if (quiet)
        print("%s%s\n", full, named || all ? "" : ":latest");
    return 0;
}
