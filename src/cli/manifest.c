/* manifest inspect, create, annotate, push and rm, and imagetools inspect. Registries are asked by the engine (GET and PUT
 * /distribution/NAME/manifest): what it knows of them (certificates, mirrors, proxies) holds here, too. */
#include "cli/cli-internal.h"

#include <string.h>

#define DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define DOCUMENT_MAX (16u << 20)

/* ---- references ---- */

char *manifest_normalize(const char *text, GError **error)
{
    struct image_name name = { 0 };
    if (!image_name_parse(text, &name, error))
        return NULL;
    if (!name.tag && !name.digest)
        name.tag = g_strdup("latest");
    char *full = image_name_canonical(&name);
    image_name_clear(&name);
    return full;
}

/* Without tag and digest. */
static char *repository_of(const char *reference)
{
    size_t length = strcspn(reference, "@");
    const char *slash = strrchr(reference, '/'), *colon = strchr(slash ? slash : reference, ':');
    return g_strndup(reference, MIN(length, colon ? (size_t)(colon - reference) : length));
}

static char *host_of(const char *reference)
{
    return g_strndup(reference, strcspn(reference, "/"));
}

/* ---- the registry, through the engine ---- */

static char *manifest_path(const char *reference)
{
    return api_path("distribution", reference, "/manifest");
}

json_t *manifest_fetch(struct cli *cli, const char *reference, bool insecure, GError **error)
{
    g_autofree char *path = manifest_path(reference), *auth = registry_auth_header(cli, reference);
    const char *const headers[] = { "X-Registry-Auth", auth, NULL };
    g_autoptr(GError) problem = NULL;
    struct call call = { .method = "GET", .path = path, .query = insecure ? "insecure=1" : NULL, .headers = headers };
    g_autoptr(json_t) answer = api_json(cli, &call, &problem);
    if (!answer) {
        if (g_error_matches(problem, TARE_ERROR, TARE_ERROR_NOT_FOUND))
            error_set(error, TARE_ERROR_NOT_FOUND, "no such manifest: %s", reference);
        else
            g_propagate_error(error, g_steal_pointer(&problem));
        return NULL;
    }
    gsize length = 0;
    const char *raw = json_get_string(answer, "Raw", "");
    g_autofree guchar *text = g_base64_decode(raw, &length);
    json_t *descriptor = json_get_object(answer, "Descriptor"),
           *document = json_parse((char *)text, length, DOCUMENT_MAX, reference, error);
    if (!document)
        return NULL;
    const char *type = json_get_string(descriptor, "mediaType", "");
    bool is_list = strcmp(type, OCI_INDEX) == 0 || strcmp(type, DOCKER_LIST) == 0;
    return json_pack("{s:s, s:O, s:s, s:o}", "Ref", reference, "Descriptor", descriptor, "Raw", raw,
                     is_list                           ? "List"
                     : strcmp(type, OCI_MANIFEST) == 0 ? "OCIManifest"
                                                       : "SchemaV2Manifest",
                     document);
}

json_t *manifest_document(const json_t *manifest)
{
    json_t *found = json_get_object(manifest, "List");
    if (!found)
        found = json_get_object(manifest, "OCIManifest");
    return found ? found : json_get_object(manifest, "SchemaV2Manifest");
}

/* Lists of old clients kept no bytes. */
char *manifest_raw(const json_t *manifest, gsize *ret_length)
{
    const char *raw = json_get_string(manifest, "Raw", "");
    if (*raw)
        return (char *)g_base64_decode(raw, ret_length);
    char *dumped = json_dumps(manifest_document(manifest), JSON_INDENT(3)), *text = g_strdup(dumped);
    free(dumped);
    *ret_length = strlen(text);
    return text;
}

/* ---- lists ---- */

static json_t *platform_for_list(const json_t *platform)
{
    static const char *const fields[] = { "architecture", "os", "os.version", "os.features", "variant" };
    json_t *picked = json_object();
    for (size_t i = 0; i < 2; i++)
        json_object_set_new(picked, fields[i], json_string(json_get_string(platform, fields[i], "")));
    for (size_t i = 2; i < G_N_ELEMENTS(fields); i++)
        if (json_object_get(platform, fields[i]))
            json_object_set(picked, fields[i], json_object_get(platform, fields[i]));
    return picked;
}

/* OCI's where the first of them is, as docker decides. */
static json_t *list_document(const json_t *descriptors)
{
    g_autoptr(json_t) entries = json_array();
    size_t i;
    json_t *descriptor;
    const char *first = json_get_string(json_array_get(descriptors, 0), "mediaType", "");
    json_array_foreach(descriptors, i, descriptor) json_array_append_new(
        entries, json_pack("{s:s, s:I, s:s, s:o}", "mediaType", json_get_string(descriptor, "mediaType", ""), "size",
                           (json_int_t)json_get_int(descriptor, "size", 0), "digest", json_get_string(descriptor, "digest", ""),
                           "platform", platform_for_list(json_get_object(descriptor, "platform"))));
    return json_pack("{s:i, s:s, s:O}", "schemaVersion", 2, "mediaType",
                     strcmp(first, OCI_MANIFEST) == 0 ? OCI_INDEX : DOCKER_LIST, "manifests", entries);
}

static bool check_host(const char *manifest, const char *list, GError **error)
{
    g_autofree char *a = host_of(manifest), *b = host_of(list);
    return strcmp(a, b) == 0 ||
           error_set(error, TARE_ERROR_INVALID,
                     "cannot use source images from a different registry than the target image: %s != %s", a, b);
}

/* The list that the manifests of the store make; NULL and an error. */
static json_t *list_of_stored(const char *list, const json_t *stored, bool complete, GError **error)
{
    g_autoptr(json_t) descriptors = json_array();
    size_t i;
    json_t *manifest;
    json_array_foreach(stored, i, manifest)
    {
        json_t *descriptor = json_get_object(manifest, "Descriptor"), *platform = json_get_object(descriptor, "platform");
        const char *reference = json_get_string(manifest, "Ref", "");
        if (complete && (!*json_get_string(platform, "os", "") || !*json_get_string(platform, "architecture", ""))) {
            error_set(error, TARE_ERROR_INVALID, "manifest %s must have an OS and Architecture to be pushed to a registry",
                      reference);
            return NULL;
        }
        if (!check_host(reference, list, error))
            return NULL;
        json_array_append(descriptors, descriptor);
    }
    return list_document(descriptors);
}

/* ---- inspect ---- */

static void print_indented(const json_t *value, int width, bool tabs)
{
    char *text = json_dumps(value, JSON_INDENT((size_t)width));
    for (const char *c = text; *c;) {
        size_t line = strcspn(c, "\n"), blanks = tabs ? strspn(c, " ") : 0;
        for (size_t i = 0; i < blanks; i++)
            print("\t");
        print("%.*s%s", (int)(line - blanks), c + blanks, c[line] ? "\n" : "");
        c += line + (c[line] != '\0');
    }
    print("\n");
    free(text);
}

static void print_manifest(const json_t *manifest, bool verbose)
{
    print_indented(verbose ? manifest : manifest_document(manifest), 1, true);
}

/* Every manifest of a list that a registry has, with the platform that the list gives it. */
static json_t *fetch_all(struct cli *cli, const json_t *list, bool insecure, GError **error)
{
    g_autoptr(json_t) all = json_array();
    size_t i;
    json_t *entry;
    json_array_foreach(json_get_array(json_get_object(list, "List"), "manifests"), i, entry)
    {
        g_autofree char *repository = repository_of(json_get_string(list, "Ref", ""));
        g_autofree char *reference = g_strconcat(repository, "@", json_get_string(entry, "digest", ""), NULL);
        g_autofree char *shown = g_strconcat(json_get_string(list, "Ref", ""), "@", json_get_string(entry, "digest", ""), NULL);
        json_t *manifest = manifest_fetch(cli, reference, insecure, error);
        if (!manifest)
            return NULL;
        json_object_set_new(manifest, "Ref", json_string(shown));
        json_object_set_new(json_get_object(manifest, "Descriptor"), "platform",
                            platform_for_list(json_get_object(entry, "platform")));
        json_array_append_new(all, manifest);
    }
    return g_steal_pointer(&all);
}

static bool inspect_remote(struct cli *cli, const char *reference, bool verbose, bool insecure, GError **error)
{
    g_autoptr(json_t) found = manifest_fetch(cli, reference, insecure, error);
    if (!found)
        return false;
    if (!json_get_object(found, "List")) {
        print_manifest(found, verbose);
        return true;
    }
    if (verbose) {
        g_autoptr(json_t) all = fetch_all(cli, found, insecure, error);
        if (all)
            print_indented(all, 1, true);
        return all != NULL;
    }
    g_autoptr(json_t) document = list_document(json_get_array(json_get_object(found, "List"), "manifests"));
    print_indented(document, 3, false);
    return true;
}

static bool inspect_local(const char *reference, const json_t *stored, bool verbose, GError **error)
{
    if (verbose) {
        print_indented(stored, 1, true);
        return true;
    }
    g_autoptr(json_t) document = list_of_stored(reference, stored, false, error);
    if (document)
        print_indented(document, 3, false);
    return document != NULL;
}

int cmd_manifest_inspect(struct cli *cli, const struct options *options, GError **error)
{
    bool verbose = options_bool(options, "verbose", false), insecure = options_bool(options, "insecure", false), ok;
    g_autofree char *reference = manifest_normalize(options->args[options->n_args - 1], error);
    g_autofree char *list = reference && options->n_args == 2 ? manifest_normalize(options->args[0], error) : NULL;
    if (!reference || (options->n_args == 2 && !list))
        return 1;
    if (list) {
        g_autoptr(json_t) manifest = manifest_store_get(cli, list, reference, error);
        if (manifest)
            print_manifest(manifest, verbose);
        return manifest ? 0 : 1;
    }
    g_autoptr(json_t) stored = manifest_store_list(cli, reference, NULL);
    ok = stored ? inspect_local(reference, stored, verbose, error) : inspect_remote(cli, reference, verbose, insecure, error);
    return ok ? 0 : 1;
}

/* ---- create, annotate, rm ---- */

int cmd_manifest_create(struct cli *cli, const struct options *options, GError **error)
{
    bool insecure = options_bool(options, "insecure", false);
    g_autofree char *list = manifest_normalize(options->args[0], error);
    if (!list) {
        g_prefix_error(error, "error parsing name for manifest list %s: ", options->args[0]);
        return 1;
    }
    g_autoptr(json_t) known = manifest_store_list(cli, list, NULL);
    if (known && !options_bool(options, "amend", false))
        return error_set(error, TARE_ERROR_CONFLICT, "refusing to amend an existing manifest list with no --amend flag"), 1;
    for (guint i = 1; i < options->n_args; i++) {
        g_autofree char *reference = manifest_normalize(options->args[i], error);
        if (!reference)
            return 1;
        g_autoptr(json_t) manifest = manifest_store_get(cli, list, reference, NULL);
        if (!manifest)
            manifest = manifest_fetch(cli, reference, insecure, error);
        if (!manifest)
            return 1;
        if (json_get_object(manifest, "List"))
            return error_set(error, TARE_ERROR_INVALID, "%s is a manifest list", reference), 1;
        if (!manifest_store_save(cli, list, reference, manifest, error))
            return 1;
    }
    print("Created manifest list %s\n", list);
    return 0;
}

static bool is_known_platform(const json_t *platform)
{
    static const char *const known[] = { "darwin/386",
                                         "darwin/amd64",
                                         "darwin/arm",
                                         "darwin/arm64",
                                         "dragonfly/amd64",
                                         "freebsd/386",
                                         "freebsd/amd64",
                                         "freebsd/arm",
                                         "linux/386",
                                         "linux/amd64",
                                         "linux/arm",
                                         "linux/arm64",
                                         "linux/ppc64le",
                                         "linux/mips64",
                                         "linux/mips64le",
                                         "linux/riscv64",
                                         "linux/s390x",
                                         "netbsd/386",
                                         "netbsd/amd64",
                                         "netbsd/arm",
                                         "openbsd/386",
                                         "openbsd/amd64",
                                         "openbsd/arm",
                                         "plan9/386",
                                         "plan9/amd64",
                                         "solaris/amd64",
                                         "windows/386",
                                         "windows/amd64",
                                         NULL };
    g_autofree char *text =
        g_strconcat(json_get_string(platform, "os", ""), "/", json_get_string(platform, "architecture", ""), NULL);
    return g_strv_contains(known, text);
}

static void add_features(json_t *platform, const char *const *features)
{
    json_t *list = json_get_array(platform, "os.features");
    if (!*features)
        return;
    if (!list)
        json_object_set_new(platform, "os.features", list = json_array());
    for (; *features; features++) {
        g_autoptr(json_t) feature = json_string_lossy(*features);
        size_t i;
        json_t *have;
        bool there = false;
        json_array_foreach(list, i, have) there |= json_equal(have, feature);
        if (!there)
            json_array_append(list, feature);
    }
}

int cmd_manifest_annotate(struct cli *cli, const struct options *options, GError **error)
{
    static const char *const flags[][2] = {
        { "os", "os" }, { "arch", "architecture" }, { "variant", "variant" }, { "os-version", "os.version" }
    };
    g_autofree char *list = manifest_normalize(options->args[0], error);
    if (!list) {
        g_prefix_error(error, "annotate: error parsing name for manifest list %s: ", options->args[0]);
        return 1;
    }
    g_autofree char *reference = manifest_normalize(options->args[1], error);
    if (!reference) {
        g_prefix_error(error, "annotate: error parsing name for manifest %s: ", options->args[1]);
        return 1;
    }
    g_autoptr(GError) problem = NULL;
    g_autoptr(json_t) manifest = manifest_store_get(cli, list, reference, &problem);
    if (!manifest && g_error_matches(problem, TARE_ERROR, TARE_ERROR_NOT_FOUND))
        return error_set(error, TARE_ERROR_NOT_FOUND, "manifest for image %s does not exist in %s", options->args[1],
                         options->args[0]),
               1;
    if (!manifest) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return 1;
    }
    json_t *descriptor = json_get_object(manifest, "Descriptor"), *platform = json_get_object(descriptor, "platform");
    if (!platform)
        json_object_set_new(descriptor, "platform", platform = json_object());
    for (size_t i = 0; i < G_N_ELEMENTS(flags); i++)
        if (*options_string(options, flags[i][0], ""))
            json_object_set_new(platform, flags[i][1], json_string_lossy(options_string(options, flags[i][0], "")));
    add_features(platform, options_list(options, "os-features"));
    json_object_set_new(descriptor, "platform", platform_for_list(platform)); /* in docker's order */
    platform = json_get_object(descriptor, "platform");
    if (!is_known_platform(platform))
        return error_set(error, TARE_ERROR_INVALID, "manifest entry for image has unsupported os/arch combination: %s/%s",
                         options_string(options, "os", ""), options_string(options, "arch", "")),
               1;
    return manifest_store_save(cli, list, reference, manifest, error) ? 0 : 1;
}

int cmd_manifest_rm(struct cli *cli, const struct options *options, GError **error)
{
    g_autoptr(GString) all = g_string_new(NULL);
    for (guint i = 0; i < options->n_args; i++) {
        g_autoptr(GError) problem = NULL;
        g_autofree char *list = manifest_normalize(options->args[i], &problem);
        if (!list || !manifest_store_remove(cli, list, &problem))
            errors_add(all, &problem);
    }
    return errors_finish(all, error);
}

/* ---- push ---- */

/* What the target repository may lack: the manifest's blobs are made known to it first. */
static json_t *mounts_of(const json_t *manifest, const char *from)
{
    json_t *mounts = json_array(), *document = manifest_document(manifest), *layer;
    size_t i;
    json_array_append_new(mounts, json_pack("{s:s, s:s}", "Digest",
                                            json_get_string(json_get_object(document, "config"), "digest", ""), "From", from));
    json_array_foreach(json_get_array(document, "layers"), i, layer)
        json_array_append_new(mounts, json_pack("{s:s, s:s}", "Digest", json_get_string(layer, "digest", ""), "From", from));
    return mounts;
}

/* *ret_digest: what the registry calls it (g_free). mounts is stolen. */
static bool put(struct cli *cli, const char *reference, const char *media_type, const char *text, gsize length, json_t *mounts,
                bool insecure, char **ret_digest, GError **error)
{
    g_autofree char *path = manifest_path(reference), *auth = registry_auth_header(cli, reference),
                    *raw = g_base64_encode((const guchar *)text, length);
    const char *const headers[] = { "X-Registry-Auth", auth, NULL };
    g_autoptr(json_t) body = json_pack("{s:s, s:s, s:o}", "MediaType", media_type, "Raw", raw, "Mounts", mounts);
    struct call call = {
        .method = "PUT", .path = path, .query = insecure ? "insecure=1" : NULL, .json = body, .headers = headers
    };
    g_autoptr(json_t) answer = api_json(cli, &call, error);
    if (answer)
        *ret_digest = g_strdup(json_get_string(answer, "Digest", ""));
    return answer != NULL;
}

/* A manifest of another repository, under its digest in the list's. */
static bool push_member(struct cli *cli, const char *list_repository, const json_t *manifest, bool insecure, GError **error)
{
    const json_t *descriptor = json_get_object(manifest, "Descriptor");
    g_autofree char *own = repository_of(json_get_string(manifest, "Ref", ""));
    if (strcmp(own, list_repository) == 0)
        return true;
    gsize length = 0;
    g_autofree char *reference = g_strconcat(list_repository, "@", json_get_string(descriptor, "digest", ""), NULL);
    g_autofree char *text = manifest_raw(manifest, &length), *digest = NULL;
    if (!put(cli, reference, json_get_string(descriptor, "mediaType", ""), text, length,
             mounts_of(manifest, own + strcspn(own, "/") + 1), insecure, &digest, error))
        return false;
    print("Pushed ref %s with digest: %s\n", reference, digest);
    fflush(stdout);
    return true;
}

bool manifest_push_text(struct cli *cli, const char *reference, const char *type, const char *text, json_t **ret, GError **error)
{
    g_autofree char *digest = NULL;
    bool ok = put(cli, reference, type, text, strlen(text), json_array(), false, &digest, error);
    if (ok)
        *ret = json_pack("{s:s, s:s, s:I}", "mediaType", type, "digest", digest, "size", (json_int_t)strlen(text));
    return ok;
}

bool manifest_push_list(struct cli *cli, const char *list, const json_t *manifests, json_t **ret, GError **error)
{
    g_autoptr(json_t) document = list_of_stored(list, manifests, true, error);
    if (!document)
        return false;
    char *text = json_dumps(document, JSON_INDENT(3));
    bool ok = manifest_push_text(cli, list, json_get_string(document, "mediaType", ""), text, ret, error);
    free(text);
    return ok;
}

int cmd_manifest_push(struct cli *cli, const struct options *options, GError **error)
{
    bool insecure = options_bool(options, "insecure", false);
    g_autofree char *list = manifest_normalize(options->args[0], error);
    g_autoptr(json_t) stored = list ? manifest_store_list(cli, list, error) : NULL;
    if (!stored)
        return 1;
    if (json_array_size(stored) == 0)
        return error_set(error, TARE_ERROR_NOT_FOUND, "%s not found", list), 1;
    g_autoptr(json_t) document = list_of_stored(list, stored, true, error);
    g_autofree char *repository = repository_of(list), *digest = NULL;
    size_t i;
    json_t *manifest;
    if (!document)
        return 1;
    json_array_foreach(stored, i, manifest)
    {
        if (!push_member(cli, repository, manifest, insecure, error))
            return 1;
    }
    char *text = json_dumps(document, JSON_INDENT(3));
    bool ok =
        put(cli, list, json_get_string(document, "mediaType", ""), text, strlen(text), json_array(), insecure, &digest, error);
    free(text);
    if (!ok)
        return 1;
    print("%s\n", digest);
    return !options_bool(options, "purge", false) || manifest_store_remove(cli, list, error) ? 0 : 1;
}
