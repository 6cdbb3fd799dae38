/* image rm, tag, import, load, save. */
#include "cli/cli-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int cmd_image_rm(struct cli *cli, const struct options *options, GError **error)
{
    bool force = options_bool(options, "force", false), fatal = false;
    g_autoptr(GString) query = g_string_new(NULL), problems = g_string_new(NULL);
    query_add_bool(query, "force", force);
    query_add_bool(query, "noprune", options_bool(options, "no-prune", false));
    for (const char *const *platform = options_list(options, "platform"); *platform; platform++)
        if (!query_add_platform(query, "platforms", *platform, error))
            return 1;
    for (char **name = options->args; *name; name++) {
        g_autofree char *path = api_path("images", *name, "");
        g_autoptr(GError) problem = NULL;
        struct call call = { .method = "DELETE", .path = path, .query = query->str };
        g_autoptr(json_t) answer = api_json(cli, &call, &problem);
        size_t i;
        json_t *item;
        json_array_foreach(answer, i, item)
        {
            const char *deleted = json_get_string(item, "Deleted", NULL);
            if (deleted)
                print("Deleted: %s\n", deleted);
            else
                print("Untagged: %s\n", json_get_string(item, "Untagged", ""));
        }
        if (answer)
            continue;
        fatal = fatal || !error_is(problem, TARE_ERROR_NOT_FOUND);
        errors_add(problems, &problem);
    }
    if (force && !fatal && problems->len) {
        print_error("%s\n", problems->str);
        return 0;
    }
    return errors_finish(problems, error);
}

int cmd_image_tag(struct cli *cli, const struct options *options, GError **error)
{
    struct image_name name = { 0 };
    g_autoptr(GError) problem = NULL;
    if (!image_name_parse(options->args[1], &name, &problem))
        return error_set(error, TARE_ERROR_INVALID, "Error parsing reference: \"%s\" is not a valid repository/tag: %s",
                         options->args[1], problem->message),
               1;
    if (name.digest) {
        image_name_clear(&name);
        return error_set(error, TARE_ERROR_INVALID, "refusing to create a tag with a digest reference"), 1;
    }
    g_autoptr(GString) query = g_string_new(NULL);
    query_add(query, "repo", name.name);
    query_add(query, "tag", name.tag);
    image_name_clear(&name);
    g_autofree char *path = api_path("images", options->args[0], "/tag");
    struct call call = { .method = "POST", .path = path, .query = query->str };
    return api_done(cli, &call, error) ? 0 : 1;
}

static int open_file(const char *path, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        error_set(error, TARE_ERROR_INVALID, "open %s: %s", path, error_errno_text(errno));
    return fd;
}

static bool is_url(const char *text)
{
    return g_str_has_prefix(text, "http://") || g_str_has_prefix(text, "https://");
}

int cmd_image_import(struct cli *cli, const struct options *options, GError **error)
{
    const char *source = options->args[0], *platform = options_string(options, "platform", g_getenv("DOCKER_DEFAULT_PLATFORM"));
    struct image_name name = { 0 };
    if (options->n_args > 1 && !image_name_parse(options->args[1], &name, error))
        return 1;
    image_name_clear(&name);
    g_autofd int opened = -1;
    int fd = -1;
    if (strcmp(source, "-") == 0)
        fd = STDIN_FILENO;
    else if (!is_url(source) && (fd = opened = open_file(source, error)) < 0)
        return 1;
    g_autoptr(GString) query = g_string_new(NULL);
    query_add(query, "fromSrc", fd >= 0 ? "-" : source);
    query_add(query, "repo", options->n_args > 1 ? options->args[1] : NULL);
    query_add(query, "message", options_string(options, "message", NULL));
    query_add(query, "platform", platform && *platform ? platform : NULL);
    for (const char *const *change = options_list(options, "change"); *change; change++)
        query_add(query, "changes", *change);
    struct call call = { .method = "POST",
                         .path = "/images/create",
                         .query = query->str,
                         .has_body_fd = fd >= 0,
                         .body_fd = fd,
                         .file_use = fd >= 0 ? "input" : NULL,
                         .file = fd };
    g_autoptr(response_t) response = api_call(cli, &call, error);
    struct progress_options output = { .fd = STDOUT_FILENO };
    return response && progress_show(response, &output, NULL, error) ? 0 : 1;
}

int cmd_image_load(struct cli *cli, const struct options *options, GError **error)
{
    const char *input = options_string(options, "input", NULL), *platform = options_string(options, "platform", NULL);
    bool quiet = options_bool(options, "quiet", false);
    g_autofd int opened = -1;
    if (input && (opened = open_file(input, error)) < 0)
        return 1;
    if (!input && is_terminal(STDIN_FILENO))
        return error_set(error, TARE_ERROR_INVALID, "requested load from stdin, but stdin is empty"), 1;
    quiet = quiet || !is_terminal(STDOUT_FILENO);
    g_autoptr(GString) query = g_string_new(NULL);
    query_add(query, "quiet", quiet ? "1" : "0");
    if (!query_add_platform(query, "platform", platform, error)) {
        g_prefix_error(error, "invalid platform: ");
        return 1;
    }
    static const char *const headers[] = { "Content-Type", "application/x-tar", NULL };
    struct call call = { .method = "POST",
                         .path = "/images/load",
                         .query = query->str,
                         .headers = headers,
                         .has_body_fd = true,
                         .body_fd = input ? opened : STDIN_FILENO,
                         .file_use = "input",
                         .file = input ? opened : STDIN_FILENO };
    g_autoptr(response_t) response = api_call(cli, &call, error);
    if (!response)
        return 1;
    const char *type = g_hash_table_lookup(response->head.headers, "content-type");
    struct progress_options output = { .fd = STDOUT_FILENO };
    if (type && g_str_has_prefix(type, "application/json"))
        return progress_show(response, &output, NULL, error) ? 0 : 1;
    return response_copy(response, STDOUT_FILENO, error) ? 0 : 1;
}

/* Where an answer goes: to stdout, a device, or a file that appears whole or not at all. */
struct output {
    const char *path; /* NULL: stdout */
    char *temporary;  /* of a file */
    int fd;
};

static bool output_open(const char *path, struct output *ret, GError **error)
{
    struct stat status;
    *ret = (struct output){ .path = path, .fd = STDOUT_FILENO };
    fflush(stdout);
    if (!path)
        return true;
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode)) {
        ret->fd = open(path, O_WRONLY | O_CLOEXEC);
    } else {
        ret->temporary = g_strconcat(path, ".tmp-XXXXXX", NULL);
        ret->fd = g_mkstemp_full(ret->temporary, O_RDWR | O_CLOEXEC, 0600);
    }
    if (ret->fd >= 0)
        return true;
    int saved = errno;
    g_clear_pointer(&ret->temporary, g_free);
    return error_set(error, TARE_ERROR_INVALID, "open %s: %s", path, error_errno_text(saved));
}

static bool output_close(struct output *output, bool ok, GError **error)
{
    if (output->temporary && ok && rename(output->temporary, output->path) < 0)
        ok = error_set_errno(error, errno, "rename %s", output->path);
    if (output->temporary && !ok)
        unlink(output->temporary);
    g_free(output->temporary);
    if (output->path)
        fd_close(output->fd);
    return ok;
}

bool save_answer(struct cli *cli, struct call *call, const char *path, GError **error)
{
    struct output output;
    if (!output_open(path, &output, error))
        return false;
    call->file_use = "output";
    call->file = output.fd;
    g_autoptr(response_t) response = api_call(cli, call, error);
    const char *written = response ? g_hash_table_lookup(response->head.headers, "x-tare-file") : NULL;
    bool ok = response && (g_strcmp0(written, "written") == 0 || response_copy(response, output.fd, error));
    return output_close(&output, ok, error);
}

/* What docker says of a path that it would not rename a file to. Devices and pipes are written to here. */
static bool check_path(const char *output, GError **error)
{
    struct stat status;
    g_autofree char *directory = g_path_get_dirname(output);
    if (stat(directory, &status) < 0)
        return error_set(error, TARE_ERROR_INVALID, "invalid output path: stat %s: %s", directory, error_errno_text(errno));
    if (!S_ISDIR(status.st_mode))
        return error_set(error, TARE_ERROR_INVALID, "invalid output path: stat %s: not a directory", directory);
    if (lstat(output, &status) < 0)
        return errno == ENOENT ||
               error_set(error, TARE_ERROR_INVALID, "invalid output path: lstat %s: %s", output, error_errno_text(errno));
    if (S_ISDIR(status.st_mode))
        return error_set(error, TARE_ERROR_INVALID, "cannot write to a directory");
    if (S_ISLNK(status.st_mode))
        return error_set(error, TARE_ERROR_INVALID, "cannot write to a symbolic link directly");
    return true;
}

bool check_output(const char *output, const char *what, GError **error)
{
    if (!output && is_terminal(STDOUT_FILENO))
        return error_set(error, TARE_ERROR_INVALID, "cowardly refusing to save to a terminal. Use the -o flag or redirect");
    if (!output || check_path(output, error))
        return true;
    g_prefix_error(error, "failed to %s: ", what);
    return false;
}

int cmd_image_save(struct cli *cli, const struct options *options, GError **error)
{
    const char *output = options_string(options, "output", NULL), *platform = options_string(options, "platform", NULL);
    output = output && *output ? output : NULL;
    g_autoptr(GString) query = g_string_new(NULL);
    if (!query_add_platform(query, "platform", platform, error)) {
        g_prefix_error(error, "invalid platform: ");
        return 1;
    }
    if (!check_output(output, "save image", error))
        return 1;
    for (char **name = options->args; *name; name++)
        query_add(query, "names", *name);
    struct call call = { .method = "GET", .path = "/images/get", .query = query->str };
    return save_answer(cli, &call, output, error) ? 0 : 1;
}

/* Every layer, and what became of it; a damaged one makes it fail. */
int cmd_image_verify(struct cli *cli, const struct options *options, GError **error)
{
    static const char *const all[] = { NULL };
    const char *const *names = options->n_args > 0 ? (const char *const *)options->args : all;
    g_autoptr(GString) problems = g_string_new(NULL);
    do {
        g_autofree char *path = *names ? api_path("images", *names, "/verify") : g_strdup("/images/verify");
        g_autoptr(GError) problem = NULL;
        struct call call = { .method = "POST", .path = path };
        struct progress_options output = { .fd = STDOUT_FILENO };
        g_autoptr(response_t) response = api_call(cli, &call, &problem);
        if (!response || !progress_show(response, &output, NULL, &problem))
            errors_add(problems, &problem);
    } while (*names && *++names);
    return errors_finish(problems, error);
}
