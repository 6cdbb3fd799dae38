/* image ls: `images`. */
#include "cli/cli-internal.h"

#include "base/size.h"

#include <string.h>

static const struct list_field fields[] = {
    { "ID", "IMAGE ID" },
    { "Repository", "REPOSITORY" },
    { "Tag", "TAG" },
    { "Digest", "DIGEST" },
    { "CreatedSince", "CREATED" },
    { "CreatedAt", "CREATED AT" },
    { "Size", "SIZE" },
    { "Containers", "CONTAINERS" },
    { "VirtualSize", "SIZE" },
    { "SharedSize", "SHARED SIZE" },
    { "UniqueSize", "UNIQUE SIZE" },
    { NULL, "imageContext" },
};

struct listing {
    struct list *list;
    bool truncate, digests;
};

static json_t *optional_size(gint64 bytes)
{
    if (bytes < 0)
        return json_string("N/A");
    g_autofree char *text = size_human((guint64)bytes, 4);
    return json_string(text);
}

/* What the template cannot show is there, and empty. */
static void set_wanted(const struct listing *listing, json_t *row, const char *field, json_t *(*make)(gint64), gint64 value)
{
    json_object_set_new_nocheck(row, field, list_wants(listing->list, field) ? make(value) : json_string_nocheck(""));
}

static json_t *make_age(gint64 created)
{
    g_autofree char *text = age_text(created);
    return json_string(text);
}

static json_t *make_size(gint64 bytes)
{
    g_autofree char *text = bytes_text(bytes);
    return json_string(text);
}

static json_t *make_count(gint64 containers)
{
    g_autofree char *text = containers < 0 ? g_strdup("N/A") : g_strdup_printf("%" G_GINT64_FORMAT, containers);
    return json_string(text);
}

static json_t *describe(const struct listing *listing, const json_t *image, const char *repository, const char *tag,
                        const char *digest)
{
    char room[13];
    const char *id = json_get_string(image, "Id", "");
    gint64 created = json_get_int(image, "Created", 0), size = json_get_int(image, "Size", 0),
           shared = json_get_int(image, "SharedSize", -1);
    json_t *row = json_object();
    json_object_set_new_nocheck(row, "ID", json_string(listing->truncate ? short_id(id, room) : id));
    json_object_set_new_nocheck(row, "Repository", json_string_lossy(repository));
    json_object_set_new_nocheck(row, "Tag", json_string_lossy(tag));
    json_object_set_new_nocheck(row, "Digest", json_string_lossy(digest));
    set_wanted(listing, row, "CreatedSince", make_age, created);
    set_wanted(listing, row, "CreatedAt", created_at_text, created);
    set_wanted(listing, row, "Size", make_size, size);
    set_wanted(listing, row, "VirtualSize", optional_size, size);
    set_wanted(listing, row, "Containers", make_count, json_get_int(image, "Containers", -1));
    set_wanted(listing, row, "SharedSize", optional_size, shared);
    set_wanted(listing, row, "UniqueSize", optional_size, shared < 0 ? -1 : size - shared);
    return row;
}

/* "repository:tag" or "repository@digest" → its two parts as people see them. */
static bool split_reference(const char *reference, char separator, char **ret_name, char **ret_rest)
{
    struct image_name name = { 0 };
    if (!image_name_parse(reference, &name, NULL))
        return false;
    char **rest = separator == '@' ? &name.digest : &name.tag;
    bool ok = *rest != NULL;
    if (ok) {
        *ret_name = g_steal_pointer(&name.name);
        *ret_rest = g_steal_pointer(rest);
    }
    image_name_clear(&name);
    return ok;
}

static bool add_tagged(struct listing *listing, const json_t *image, const char *tag_reference, GHashTable *shown, GError **error)
{
    g_autofree char *repository = NULL, *tag = NULL;
    if (!split_reference(tag_reference, ':', &repository, &tag))
        return true;
    g_hash_table_add(shown, g_strdup(repository));
    bool any = false, ok = true;
    size_t i;
    json_t *entry;
    json_array_foreach(json_get_array(image, "RepoDigests"), i, entry)
    {
        g_autofree char *name = NULL, *digest = NULL;
        if (!listing->digests || !split_reference(json_string_value(entry), '@', &name, &digest) || strcmp(name, repository) != 0)
            continue;
        any = true;
        ok = ok && list_add(listing->list, describe(listing, image, repository, tag, digest), error);
    }
    return ok && (any || list_add(listing->list, describe(listing, image, repository, tag, "<none>"), error));
}

static bool is_dangling(const json_t *image)
{
    const json_t *tags = json_get_array(image, "RepoTags"), *digests = json_get_array(image, "RepoDigests");
    const char *tag = json_string_value(json_array_get(tags, 0)), *digest = json_string_value(json_array_get(digests, 0));
    bool no_tags = !tag || strcmp(tag, "<none>:<none>") == 0, no_digests = !digest || strcmp(digest, "<none>@<none>") == 0;
    return no_tags && no_digests;
}

static bool add_image(struct listing *listing, const json_t *image, GError **error)
{
    if (is_dangling(image))
        return list_add(listing->list, describe(listing, image, "<none>", "<none>", "<none>"), error);
    g_autoptr(GHashTable) shown = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    bool ok = true;
    size_t i;
    json_t *entry;
    json_array_foreach(json_get_array(image, "RepoTags"), i, entry) ok =
        ok && add_tagged(listing, image, json_string_value(entry), shown, error);
    json_array_foreach(json_get_array(image, "RepoDigests"), i, entry)
    {
        g_autofree char *name = NULL, *digest = NULL;
        if (!ok || !split_reference(json_string_value(entry), '@', &name, &digest) || g_hash_table_contains(shown, name))
            continue;
        if (!listing->digests)
            g_hash_table_add(shown, g_strdup(name));
        ok = list_add(listing->list, describe(listing, image, name, "<none>", listing->digests ? digest : ""), error);
    }
    return ok;
}

static char *choose_format(struct cli *cli, const struct options *options, bool quiet, bool digests)
{
    const char *format = options_string(options, "format", NULL);
    if (!format && !quiet)
        format = json_get_string(cli->config, "imagesFormat", NULL);
    bool adds = digests && format && g_str_has_prefix(format, "table") && strlen(format) > 5 && !strstr(format, "{{.Digest}}");
    return adds ? g_strconcat(format, "\t{{.Digest}}", NULL) : g_strdup(format);
}

static json_t *fetch(struct cli *cli, const struct options *options, bool tree, GError **error)
{
    json_t *filters = filters_from_options(options, error);
    if (options->n_args > 0) {
        json_t *references = json_object_get(filters, "reference");
        if (!references)
            json_object_set_new(filters, "reference", references = json_object());
        json_object_set_new(references, options->args[0], json_true());
    }
    g_autoptr(GString) query = g_string_new(NULL);
    query_add_bool(query, "all", options_bool(options, "all", false));
    query_add_bool(query, "manifests", tree);
    if (json_object_size(filters) > 0)
        query_add_json(query, "filters", filters);
    else
        json_decref(filters);
    return api_get(cli, "/images/json", query->str, error);
}

/* `images ls` lists what is called "ls". */
static void hint_at_group(const struct options *options, const json_t *images)
{
    static const char *const verbs[] = { "build", "history", "import", "inspect", "list", "load", "ls",
                                         "prune", "pull",    "push",   "rm",      "save", "tag",  NULL };
    const char *name = options->n_args ? options->args[0] : "";
    if (strcmp(options->path, "images") == 0 && json_array_size(images) == 0 && g_strv_contains(verbs, name))
        print_error("\nNo images found matching \"%s\": did you mean \"%s image %s\"?\n", name, options->program, name);
}

static int show_tree(struct cli *cli, const struct options *options, GError **error)
{
    if (!image_tree_check(options, error))
        return 1;
    g_autoptr(json_t) images = fetch(cli, options, true, error);
    if (images)
        image_tree_show(images, options_bool(options, "all", false));
    return images ? 0 : 1;
}

int cmd_image_ls(struct cli *cli, const struct options *options, GError **error)
{
    if (options_bool(options, "tree", false))
        return show_tree(cli, options, error);
    bool quiet = options_bool(options, "quiet", false), digests = options_bool(options, "digests", false);
    g_autofree char *format = choose_format(cli, options, quiet, digests);
    const char *columns = digests ? "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
                                  : "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
    struct listing listing = { .truncate = !options_bool(options, "no-trunc", false),
                               .digests = digests || (format && strstr(format, "{{.Digest}}")) };
    const char *quiet_template = quiet ? "{{.ID}}" : NULL;
    const char *template =
        list_raw_format(format, &quiet_template,
                        digests ? "repository: {{.Repository}}\ntag: {{.Tag}}\ndigest: {{.Digest}}\nimage_id: {{.ID}}\n"
                                  "created_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n"
                                : "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\n"
                                  "created_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n",
                        "image_id: {{.ID}}");
    listing.list = list_new(fields, template, columns, quiet_template, error);
    g_autoptr(json_t) images = listing.list ? fetch(cli, options, false, error) : NULL;
    bool ok = images != NULL;
    size_t i;
    json_t *image;
    json_array_foreach(images, i, image) ok = ok && add_image(&listing, image, error);
    if (ok)
        list_finish(listing.list, error);
    else
        list_free(listing.list);
    if (ok)
        hint_at_group(options, images);
    return ok ? 0 : 1;
}
