/* --output: what becomes of the image beside its place in the engine. */
#include "cli/build-internal.h"

#include "base/fd.h"
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void build_output_clear(struct build_output *output)
{
    g_free(output->type);
    g_free(output->dest);
    g_strfreev(output->names);
    *output = (struct build_output){ 0 };
}

static bool take_field(struct build_output *output, const char *key, const char *value, GError **error)
{
    if (strcmp(key, "type") == 0) {
        g_free(output->type);
        output->type = g_strdup(value);
    } else if (strcmp(key, "dest") == 0) {
        g_free(output->dest);
        output->dest = g_strdup(value);
    } else if (strcmp(key, "name") == 0) {
        g_strfreev(output->names);
        output->names = g_strsplit(value, ",", -1);
    } else if (strcmp(key, "push") == 0) {
        output->push = strcmp(value, "true") == 0 || strcmp(value, "1") == 0;
    } else {
        return error_set(error, TARE_ERROR_INVALID, "invalid value %s: unknown output option %s", value, key);
    }
    return true;
}

static bool check(struct build_output *output, const char *text, GError **error)
{
    static const char *const types[] = { "local", "tar", "oci", "docker", "image", "registry", NULL };

    if (!output->type)
        return error_set(error, TARE_ERROR_INVALID, "type is required for output");
    if (!g_strv_contains(types, output->type))
        return error_set(error, TARE_ERROR_INVALID, "unknown output type %s", output->type);
    if (strcmp(output->type, "registry") == 0) {
        g_free(output->type);
        output->type = g_strdup("image");
        output->push = true;
    }
    if (strcmp(output->type, "local") == 0 && (!output->dest || strcmp(output->dest, "-") == 0))
        return error_set(error, TARE_ERROR_INVALID, "dest is required for local output: %s", text);
    return true;
}

bool build_output_parse(const char *text, struct build_output *ret, GError **error)
{
    struct build_output output = { 0 };
    g_auto(GStrv) fields = g_strsplit(text, ",", -1);
    bool good = true;

    if (!strchr(text, '=')) { /* a directory, or a tar on stdout */
        output.type = g_strdup(strcmp(text, "-") == 0 ? "tar" : "local");
        output.dest = g_strdup(text);
    }
    for (char **field = fields; good && strchr(text, '=') && *field; field++) {
        char *equals = strchr(*field, '=');

        if (!equals) {
            good = error_set(error, TARE_ERROR_INVALID, "invalid value %s", *field);
            break;
        }
        *equals = '\0';
        good = take_field(&output, *field, equals + 1, error);
    }
    if (!good || !check(&output, text, error)) {
        build_output_clear(&output);
        return false;
    }
    *ret = output;
    return true;
}

static bool goes_to_stdout(const struct build_output *output)
{
    return strcmp(output->type, "image") != 0 && (!output->dest || strcmp(output->dest, "-") == 0);
}

static bool check_several(const struct build_output *output, GError **error)
{
    if (strcmp(output->type, "image") == 0 && !output->push)
        return error_set(error, TARE_ERROR_INVALID, "an image for several platforms has no place here: push it, or use type=oci");
    if (strcmp(output->type, "tar") == 0)
        return error_set(error, TARE_ERROR_INVALID, "several platforms make no single tar of files: use type=local or type=oci");
    return strcmp(output->type, "docker") != 0 ||
           error_set(error, TARE_ERROR_INVALID, "docker exporter does not currently support exporting manifest lists");
}

bool build_outputs_check(const struct options *options, bool several_platforms, bool *ret_to_stdout, GError **error)
{
    guint n_to_stdout = 0;

    for (const char *const *list = options_list(options, "output"); *list; list++) {
        struct build_output output;
        bool good;

        if (!build_output_parse(*list, &output, error))
            return false;
        n_to_stdout += goes_to_stdout(&output);
        good = !several_platforms || check_several(&output, error);
        build_output_clear(&output);
        if (!good)
            return false;
    }
    if (n_to_stdout > 1)
        return error_set(error, TARE_ERROR_INVALID, "only one output can go to stdout");
    if (n_to_stdout && is_terminal(STDOUT_FILENO))
        return error_set(error, TARE_ERROR_INVALID, "dest file is required for this output. refusing to write to console");
    *ret_to_stdout = n_to_stdout > 0;
    return true;
}

/* ---- files ---- */

static bool copy(struct response *response, int fd, struct archive_index *index, GError **error)
{
    enum { SIZE = 256 * 1024 };
    g_autofree char *buffer = g_malloc(SIZE);
    gssize n;

    if (!index)
        return response_copy(response, fd, error);
    while ((n = response_read(response, buffer, SIZE, error)) > 0) {
        archive_index_take(index, buffer, (gsize)n);
        if (fd_write_full(fd, buffer, (gsize)n) < 0)
            return error_set_errno(error, errno, "write");
    }
    return n == 0;
}

/* index: sees it as well; or NULL. */
static bool save_to(struct cli *cli, const char *path, const char *query, const char *dest, struct archive_index *index,
                    GError **error)
{
    struct call call = { .method = "GET", .path = path, .query = query };
    g_autoptr(response_t) response = api_call(cli, &call, error);

    if (!response)
        return false;
    if (!dest || strcmp(dest, "-") == 0)
        return copy(response, STDOUT_FILENO, index, error);
    g_autofd int fd = open(dest, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    return (fd >= 0 || error_set_errno(error, errno, "open %s", dest)) && copy(response, fd, index, error);
}

/* Unpacked by tar(1), which keeps to its directory. */
static bool unpack(struct cli *cli, const char *query, const char *dest, GError **error)
{
    struct call call = { .method = "GET", .path = "/build/files", .query = query };
    const char *const argv[] = { "tar", "-x", "-f", "-", geteuid() == 0 ? "--same-owner" : "--no-same-owner",
                                 "-p",  "-C", dest, NULL };
    int pair[2], status;
    bool good;
    pid_t pid;

    if (g_mkdir_with_parents(dest, 0777) < 0)
        return error_set_errno(error, errno, "mkdir %s", dest);
    g_autoptr(response_t) response = api_call(cli, &call, error);

    if (!response)
        return false;
    if (pipe2(pair, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "pipe");
    struct spawn_fd fds[] = { { pair[0], 0 }, { STDERR_FILENO, 2 } };
    struct spawn_options spawn = { .argv = argv, .fds = fds, .n_fds = G_N_ELEMENTS(fds), .search_path = true };

    pid = spawn_program(&spawn, error);
    fd_close(pair[0]);
    good = pid > 0 && response_copy(response, pair[1], error);
    fd_close(pair[1]);
    status = pid > 0 ? spawn_wait(pid) : 0;
    return good && (status == 0 || error_set(error, TARE_ERROR_INTERNAL, "unpacking failed (tar: %d)", status));
}

/* ---- images ---- */

static bool give_names(struct cli *cli, const struct build_output *output, struct build_result *result, GError **error)
{
    const char *const *names = output->names ? (const char *const *)output->names : result->tags;

    if (output->push)
        return build_push(cli, result, names, error);
    for (; output->names && *names; names++)
        if (!build_tag_image(cli, result->images->pdata[0], *names, error))
            return false;
    return true;
}

/* "linux/arm64/v8" → "linux_arm64_v8", as buildx calls the directories. */
static char *directory_of(const struct build_output *output, const char *platform)
{
    g_autofree char *name = g_strdelimit(g_strdup(platform), "/", '_');

    return g_build_filename(output->dest, name, NULL);
}

static bool write_files(struct cli *cli, const struct build_output *output, const struct build_result *result, GError **error)
{
    bool is_tar = strcmp(output->type, "tar") == 0;

    for (guint i = 0; i < result->images->len; i++) {
        g_autofree char *dest =
            is_tar || !result->platforms[1] ? g_strdup(output->dest) : directory_of(output, result->platforms[i]);
        g_autoptr(GString) query = g_string_new(NULL);

        query_add(query, "image", result->images->pdata[i]);
        if (is_tar ? !save_to(cli, "/build/files", query->str, dest, NULL, error) : !unpack(cli, query->str, dest, error))
            return false;
    }
    return true;
}

/* One archive is both an OCI layout and docker's; several platforms are one image in it. */
static bool write_archive(struct cli *cli, const struct build_output *output, struct build_result *result, GError **error)
{
    struct archive_index *index;
    bool good;
    const char *const *names = output->names ? (const char *const *)output->names : result->tags;
    g_autoptr(GString) query = g_string_new(NULL);

    if (!result->platforms[1]) {
        for (const char *const *name = names; output->names && *name; name++)
            if (!build_tag_image(cli, result->images->pdata[0], *name, error))
                return false;
        for (const char *const *name = names; *name; name++)
            query_add(query, "names", *name);
        if (!*names)
            query_add(query, "names", result->images->pdata[0]);
        return save_to(cli, "/images/get", query->str, output->dest, NULL, error);
    }
    for (guint i = 0; i < result->images->len; i++)
        query_add(query, "names", result->images->pdata[i]);
    for (const char *const *name = names; *name; name++)
        query_add(query, "index", *name);
    if (!*names)
        g_string_append(query, "&index=");
    index = archive_index_new();
    good = save_to(cli, "/images/get", query->str, output->dest, index, error);
    if (good && !result->pushed)
        result->pushed = archive_index_descriptor(index);
    archive_index_free(index);
    return good;
}

bool build_output_write(struct cli *cli, const struct build_output *output, struct build_result *result, GError **error)
{
    if (strcmp(output->type, "image") == 0)
        return give_names(cli, output, result, error);
    if (strcmp(output->type, "local") == 0 || strcmp(output->type, "tar") == 0)
        return write_files(cli, output, result, error);
    return write_archive(cli, output, result, error);
}
