/* docker import: a root file system as a tar becomes an image of one layer. */
#include "image/image-internal.h"

#include "base/identifier.h"
#include "base/platform.h"
#include "base/timestamp.h"

#include <string.h>

static bool set_platform(json_t *config, const char *text, GError **error)
{
    struct platform platform;
    if (!platform_parse(text, &platform, error))
        return false;
    bool ok = strcmp(platform.os, "linux") == 0 || error_set(error, TARE_ERROR_INVALID, "operating system is not supported");
    if (ok) {
        json_object_set_new(config, "architecture", json_string(platform.architecture));
        json_object_set_new(config, "os", json_string(platform.os));
        if (*platform.variant)
            json_object_set_new(config, "variant", json_string(platform.variant));
    }
    platform_clear(&platform);
    return ok;
}

static json_t *import_document(const struct image_import_options *options, GError **error)
{
    g_autofree char *default_message = g_strdup_printf("Imported from %s", options->source_name);
    const char *message = options->message && *options->message ? options->message : default_message;
    char now[TIMESTAMP_ROOM];
    timestamp_format(timestamp_now(), now);
    g_autoptr(json_t) config = json_object();
    if (!set_platform(config, options->platform, error))
        return NULL;
    json_object_set_new(config, "comment", json_string_lossy(message));
    json_object_set_new(config, "created", json_string(now));
    json_object_set_new(config, "config", options->run_config ? json_deep_copy(options->run_config) : json_object());
    json_object_set_new(config, "docker_version", json_string(TARE_VERSION));
    json_object_set_new(config, "history", json_pack("[{s:s, s:o}]", "created", now, "comment", json_string_lossy(message)));
    return g_steal_pointer(&config);
}

bool image_import(struct image_store *store, struct byte_source *source, const struct image_import_options *options,
                  struct image **ret, GError **error)
{
    struct reference reference;
    if (options->reference && !reference_parse(options->reference, &reference, error))
        return false;
    if (options->reference && reference.digest) {
        reference_clear(&reference);
        return error_set(error, TARE_ERROR_INVALID, "cannot import digest reference");
    }
    if (options->reference)
        reference_clear(&reference);
    g_autoptr(json_t) config = import_document(options, error);
    if (!config)
        return false;
    struct layer_info layer;
    struct image_layer_claim claim;
    char id[IDENTIFIER_LENGTH + 1];
    identifier_new(id);
    g_autofree char *holder = g_strconcat("import/", id, NULL);
    image_layer_claim_init(&claim, store, holder);
    struct layer_ingest_options ingest = { .name = "imported layer", .claim = &claim.claim, .cancel = options->cancel };
    if (!layer_store_ingest(store->layers, source, &ingest, &layer, error))
        return false;
    const char *references[] = { options->reference, NULL };
    struct image_new_options new_image = {
        .config = config, .layers = &layer, .n_layers = 1, .references = options->reference ? references : NULL
    };
    bool ok = image_store_add(store, &new_image, ret, error);
    image_store_release_layers(store, holder, NULL);
    if (ok)
        store_emit(store, "import", (*ret)->id, store_labels((*ret)->config), options->reference);
    return ok;
}
