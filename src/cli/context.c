/* Contexts: named endpoints under <config>/contexts, in the layout that docker keeps them in. */
#include "cli/cli-internal.h"

#include "base/file.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define META_MAX (1u << 20)

/* The directory's name is the SHA-256 of the context's. */
char *context_path(const char *directory, const char *kind, const char *name)
{
    g_autofree char *id = g_compute_checksum_for_string(G_CHECKSUM_SHA256, name, -1);
    return g_build_filename(directory, "contexts", kind, id, NULL);
}

json_t *context_load(const char *directory, const char *name, GError **error)
{
    g_autofree char *folder = context_path(directory, "meta", name), *path = g_build_filename(folder, "meta.json", NULL),
                    *text = NULL;
    size_t length;
    if (!file_read(AT_FDCWD, path, META_MAX, &text, &length, NULL)) {
        error_set(error, TARE_ERROR_NOT_FOUND, "context \"%s\": context not found: open %s: no such file or directory", name,
                  path);
        return NULL;
    }
    return json_parse(text, length, META_MAX, path, error);
}

static char *tls_material(const char *folder, const char *name)
{
    char *path = g_build_filename(folder, "docker", name, NULL);
    if (access(path, R_OK) != 0)
        g_clear_pointer(&path, g_free);
    return path;
}

struct endpoint *context_endpoint(const char *directory, const char *name, GError **error)
{
    g_autoptr(json_t) meta = context_load(directory, name, error);
    if (!meta)
        return NULL;
    const json_t *docker = json_get_object(json_get_object(meta, "Endpoints"), "docker");
    const char *host = json_get_string(docker, "Host", "");
    struct endpoint *endpoint = endpoint_parse(*host ? host : "unix:///var/run/docker.sock", error);
    if (!endpoint)
        return NULL;
    g_autofree char *folder = context_path(directory, "tls", name);
    endpoint->ca = tls_material(folder, "ca.pem");
    endpoint->certificate = tls_material(folder, "cert.pem");
    endpoint->key = tls_material(folder, "key.pem");
    bool skip = json_get_bool(docker, "SkipTLSVerify", false);
    endpoint->tls = endpoint->kind == ENDPOINT_TCP && (endpoint->ca || endpoint->certificate || skip);
    endpoint->verify = !skip;
    return endpoint;
}
