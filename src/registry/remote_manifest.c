/* Manifests by hand: what `manifest inspect|create|push` do, for a client that speaks to no registry itself. */
#include "registry/registry-internal.h"

#include <string.h>

enum { MOUNTS_MAX = 10000 };

static bool open_session(struct registry *registry, const struct registry_remote *remote, enum registry_access access,
                         struct reference *reference, struct registry_session **ret, GError **error)
{
    if (!reference_parse(remote->reference, reference, error))
        return false;
    reference_default_tag(reference);
    if (!registry_session_new(registry, reference, remote->auth, access, remote->cancel, ret, error))
        return false;
    if (remote->insecure)
        session_allow_insecure(*ret);
    return true;
}

static const char *name_of(const struct reference *reference)
{
    return reference->digest ? reference->digest : reference->tag;
}

/* What an image runs on is in its config, not in its manifest. */
static bool add_platform(struct registry_session *session, const struct registry_manifest *manifest, json_t *into, GError **error)
{
    static const char *const fields[] = { "architecture", "os", "os.version", "os.features", "variant" };
    struct descriptor descriptor;
    g_autofree char *text = NULL;
    gsize length;
    if (!manifest_config(manifest, &descriptor, error) || !config_fetch(session, &descriptor, &text, &length, error))
        return false;
    g_autoptr(json_t) config = json_parse(text, length, REGISTRY_CONFIG_MAX, "image config", error);
    if (!config)
        return false;
    json_t *platform = json_object();
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++)
        if (json_object_get(config, fields[i]) && !json_is_null(json_object_get(config, fields[i])))
            json_object_set(platform, fields[i], json_object_get(config, fields[i]));
    json_object_set_new(into, "platform", platform);
    return true;
}

bool registry_remote_get(struct registry *registry, const struct registry_remote *remote, json_t **ret, GError **error)
{
    struct reference reference = { 0 };
    struct registry_session *session = NULL;
    struct registry_manifest manifest = { 0 };
    bool ok = open_session(registry, remote, REGISTRY_PULL, &reference, &session, error) &&
              registry_get_manifest(session, name_of(&reference), &manifest, error);
    if (ok) {
        g_autofree char *raw = g_base64_encode((guchar *)manifest.body, manifest.length);
        g_autoptr(json_t) descriptor = json_pack("{s:s, s:s, s:I}", "mediaType", manifest.media_type, "digest", manifest.digest,
                                                 "size", (json_int_t)manifest.length);
        ok = manifest.is_index || add_platform(session, &manifest, descriptor, error);
        if (ok)
            *ret = json_pack("{s:O, s:s}", "Descriptor", descriptor, "Raw", raw);
    }
    if (!ok)
        session_name_error(session, error);
    registry_manifest_clear(&manifest);
    registry_session_free(session);
    reference_clear(&reference);
    return ok;
}

/* ---- pushing ---- */

/* A registry may refuse to mount, or not know how: then the blob goes through us. */
static bool copy_blob(struct registry *registry, struct registry_session *session, const struct registry_remote *remote,
                      const char *digest, const char *from, const char *location, GError **error)
{
    struct reference reference = { 0 };
    g_autofree char *name = g_strconcat(registry_session_host(session), "/", from, NULL);
    struct registry_session *source = NULL;
    bool exists = false;
    guint64 size = 0;
    bool ok = reference_parse(name, &reference, error) &&
              registry_session_new(registry, &reference, remote->auth, REGISTRY_PULL, remote->cancel, &source, error);
    if (ok && remote->insecure)
        session_allow_insecure(source);
    ok = ok && upload_exists(source, digest, &exists, &size, error) &&
         (exists || error_set(error, TARE_ERROR_NOT_FOUND, "error mounting %s@%s to %s: it is not there", name, digest,
                              registry_session_repository(session)));
    ok = ok && upload_through(source, session, digest, size, location, error);
    registry_session_free(source);
    reference_clear(&reference);
    return ok;
}

static bool mount_blob(struct registry *registry, struct registry_session *session, const struct registry_remote *remote,
                       const json_t *mount, GError **error)
{
    const char *digest = json_get_string(mount, "Digest", ""), *from = json_get_string(mount, "From", "");
    bool exists, mounted = false;
    guint64 size;
    if (!digest_is_valid(digest) || !*from)
        return error_set(error, TARE_ERROR_INVALID, "invalid mount: Digest and From are needed");
    if (!upload_exists(session, digest, &exists, &size, error))
        return false;
    if (exists)
        return true;
    g_autofree char *scope = g_strconcat("repository:", from, ":pull", NULL), *location = NULL;
    registry_session_add_scope(session, scope);
    return (upload_mount(session, digest, from, &mounted, &location, NULL) && mounted) ||
           copy_blob(registry, session, remote, digest, from, location, error);
}

bool registry_remote_put(struct registry *registry, const struct registry_remote *remote, const json_t *request,
                         char **ret_digest, GError **error)
{
    struct reference reference = { 0 };
    struct registry_session *session = NULL;
    struct registry_manifest manifest = { 0 };
    gsize length = 0, i;
    json_t *mount;
    g_autofree guchar *raw = g_base64_decode(json_get_string(request, "Raw", ""), &length);
    g_autofree char *text = g_strndup((char *)raw, length);
    const json_t *mounts = json_get_array(request, "Mounts");
    char digest[DIGEST_ROOM];
    if (length > REGISTRY_MANIFEST_MAX || json_array_size(mounts) > MOUNTS_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "the manifest is too large");
    bool ok = registry_manifest_parse(text, length, json_get_string(request, "MediaType", ""), &manifest, error) &&
              open_session(registry, remote, REGISTRY_PUSH, &reference, &session, error);
    json_array_foreach(mounts, i, mount) ok = ok && mount_blob(registry, session, remote, mount, error);
    ok = ok && upload_manifest(session, name_of(&reference), manifest.media_type, text, length, digest, error);
    if (ok)
        *ret_digest = g_strdup(digest);
    else
        session_name_error(session, error);
    registry_session_free(session);
    reference_clear(&reference);
    registry_manifest_clear(&manifest);
    return ok;
}
