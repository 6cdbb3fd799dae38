/* buildx imagetools inspect: what a registry has under a name, for people. */
#include "cli/cli-internal.h"

#include <string.h>

static char *platform_text(const json_t *platform)
{
    const char *variant = json_get_string(platform, "variant", "");
    return g_strconcat(json_get_string(platform, "os", "unknown"), "/", json_get_string(platform, "architecture", "unknown"),
                       *variant ? "/" : "", variant, NULL);
}

static void print_annotations(const json_t *annotations)
{
    const char *key;
    json_t *value;
    guint width = 0;
    if (json_object_size(annotations) == 0)
        return;
    print("  Annotations: \n");
    json_object_foreach((json_t *)annotations, key, value) width = MAX(width, (guint)strlen(key));
    json_object_foreach((json_t *)annotations, key, value)
        print("    %s:%*s %s\n", key, (int)(width - strlen(key)), "", json_is_string(value) ? json_string_value(value) : "");
}

static void print_entry(const char *name, const json_t *entry, bool is_first)
{
    const json_t *platform = json_get_object(entry, "platform");
    if (!is_first)
        print("             \n");
    print("  Name:      %s@%s\n", name, json_get_string(entry, "digest", ""));
    print("  MediaType: %s\n", json_get_string(entry, "mediaType", ""));
    if (platform) {
        g_autofree char *text = platform_text(platform);
        print("  Platform:  %s\n", text);
    }
    print_annotations(json_get_object(entry, "annotations"));
}

static void print_view(const json_t *found, const char *name)
{
    const json_t *descriptor = json_get_object(found, "Descriptor");
    const json_t *entries = json_get_array(json_get_object(found, "List"), "manifests");
    json_t *entry;
    size_t i;
    print("Name:      %s\nMediaType: %s\nDigest:    %s\n", name, json_get_string(descriptor, "mediaType", ""),
          json_get_string(descriptor, "digest", ""));
    if (!entries)
        return;
    print("           \nManifests: \n");
    json_array_foreach(entries, i, entry) print_entry(name, entry, i == 0);
}

/* What templates see: the document and what is known of it in one. */
static json_t *view_of(const json_t *found, const char *name)
{
    json_t *manifest = json_deep_copy(manifest_document(found));
    const json_t *descriptor = json_get_object(found, "Descriptor");
    json_object_set(manifest, "digest", json_object_get(descriptor, "digest"));
    json_object_set(manifest, "size", json_object_get(descriptor, "size"));
    json_t *view = json_pack("{s:s, s:o}", "Name", name, "Manifest", manifest);
    if (json_get_object(descriptor, "platform"))
        json_object_set(view, "Image", json_object_get(descriptor, "platform"));
    return view;
}

int cmd_imagetools_inspect(struct cli *cli, const struct options *options, GError **error)
{
    const char *format = options_string(options, "format", NULL);
    g_autofree char *name = manifest_normalize(options->args[0], error);
    g_autoptr(json_t) found = name ? manifest_fetch(cli, name, false, error) : NULL;
    if (!found)
        return 1;
    if (options_bool(options, "raw", false)) {
        gsize length;
        g_autofree char *text = manifest_raw(found, &length);
        fwrite(text, 1, length, stdout);
        return 0;
    }
    if (format && *format) {
        g_autoptr(json_t) view = view_of(found, name);
        return show_by_format(format, "", "map[string]interface {}", view, error);
    }
    print_view(found, name);
    return 0;
}
