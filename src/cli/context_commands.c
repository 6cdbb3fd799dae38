/* context create, update, use, ls, inspect, rm, show. */
#include "cli/cli-internal.h"

#include "base/fd.h"
#include "base/file.h"
#include "base/parse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define MATERIAL_MAX (1u << 20)

static bool name_is_valid(const char *name, GError **error)
{
    g_autoptr(GRegex) shape = g_regex_new("^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$", 0, 0, NULL);
    if (!*name)
        return error_set(error, TARE_ERROR_INVALID, "context name cannot be empty");
    if (strcmp(name, "default") == 0)
        return error_set(error, TARE_ERROR_INVALID, "\"default\" is a reserved context name");
    return g_regex_match(shape, name, 0, NULL) ||
           error_set(error, TARE_ERROR_INVALID,
                     "context name \"%s\" is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\"",
                     name);
}

/* The current context's name: what flags, environment and configuration say. */
static const char *current_context(struct cli *cli)
{
    const char *host, *context, *const *hosts = options_list(cli->global, "host");
    struct host_sources sources = { hosts[0],
                                    options_string(cli->global, "context", NULL),
                                    g_getenv("TARE_HOST"),
                                    g_getenv("DOCKER_HOST"),
                                    g_getenv("DOCKER_CONTEXT"),
                                    json_get_string(cli->config, "currentContext", NULL) };
    host_choose(&sources, &host, &context);
    return context ? context : "default";
}

/* --docker host=…,ca=…: as one object. */
static json_t *endpoint_fields(const struct options *options)
{
    json_t *fields = json_object();
    for (const char *const *text = options_list(options, "docker"); *text; text++) {
        g_auto(GStrv) pairs = g_strsplit(*text, ",", -1);
        for (char **pair = pairs; *pair; pair++) {
            char *equals = strchr(*pair, '=');
            g_autofree char *key = g_strndup(*pair, strcspn(*pair, "="));
            json_object_set_new(fields, key, json_string_lossy(equals ? equals + 1 : ""));
        }
    }
    return fields;
}

static bool copy_material(const char *folder, const json_t *fields, const char *key, const char *name, GError **error)
{
    const char *path = json_get_string(fields, key, NULL);
    g_autofree char *text = NULL;
    size_t length;
    if (!path)
        return true;
    if (!file_read(AT_FDCWD, path, MATERIAL_MAX, &text, &length, NULL))
        return error_set(error, TARE_ERROR_INVALID, "unable to create docker endpoint config: open %s: no such file or directory",
                         path);
    g_autofree char *directory = g_build_filename(folder, "docker", NULL);
    g_autofd int dirfd = dir_make_path(directory, 0700, error);
    return dirfd >= 0 && file_write(dirfd, name, text, length, 0600, true, error);
}

static bool check_fields(const json_t *fields, GError **error)
{
    static const char *const known[] = { "host", "from", "ca", "cert", "key", "skip-tls-verify", NULL };
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)fields, key, value) if (!g_strv_contains(known, key)) return error_set(
        error, TARE_ERROR_INVALID, "unable to create docker endpoint config: unrecognized config key: %s", key);
    return true;
}

static bool save(struct cli *cli, const char *name, const json_t *meta, const json_t *fields, GError **error)
{
    g_autofree char *folder = context_path(cli->config_directory, "meta", name),
                    *tls = context_path(cli->config_directory, "tls", name);
    g_autofree char *text = json_text(meta);
    g_autofd int dirfd = dir_make_path(folder, 0755, error);
    return dirfd >= 0 && copy_material(tls, fields, "ca", "ca.pem", error) &&
           copy_material(tls, fields, "cert", "cert.pem", error) && copy_material(tls, fields, "key", "key.pem", error) &&
           file_write(dirfd, "meta.json", text, strlen(text), 0644, true, error);
}

/* The endpoint of a new or changed context. New reference. */
static json_t *docker_endpoint(struct cli *cli, const json_t *fields, GError **error)
{
    const char *from = json_get_string(fields, "from", NULL), *host = json_get_string(fields, "host", "");
    bool skip = false;
    if (from) {
        g_autoptr(json_t) other = context_load(cli->config_directory, from, error);
        return other ? json_incref(json_get_object(json_get_object(other, "Endpoints"), "docker")) : NULL;
    }
    struct endpoint *checked = *host ? endpoint_parse(host, error) : NULL;
    if (*host && !checked) {
        g_prefix_error(error, "unable to create docker endpoint config: ");
        return NULL;
    }
    endpoint_free(checked);
    parse_bool(json_get_string(fields, "skip-tls-verify", "false"), &skip);
    return json_pack("{s:s, s:b}", "Host", host, "SkipTLSVerify", skip);
}

int cmd_context_create(struct cli *cli, const struct options *options, GError **error)
{
    const char *name = options->args[0], *from = options_string(options, "from", NULL),
               *description = options_string(options, "description", NULL);
    g_autoptr(json_t) fields = endpoint_fields(options), meta = NULL, old = NULL;
    if (!name_is_valid(name, error))
        return 1;
    if ((old = context_load(cli->config_directory, name, NULL)))
        return error_set(error, TARE_ERROR_CONFLICT, "context \"%s\" already exists", name), 1;
    if (from && options_given(options, "docker"))
        return error_set(error, TARE_ERROR_INVALID, "cannot use --docker flag when --from is set"), 1;
    if (!from && !options_given(options, "docker"))
        from = current_context(cli);
    if (!check_fields(fields, error))
        return 1;
    if (from && strcmp(from, "default") != 0) {
        if (!(meta = context_load(cli->config_directory, from, error)))
            return 1;
    } else {
        if (from) {
            if (!cli_resolve_endpoint(cli, error))
                return 1;
            json_object_set_new(fields, "host", json_string(cli->endpoint->host));
        }
        json_t *docker = docker_endpoint(cli, fields, error);
        if (!docker)
            return 1;
        meta = json_pack("{s:s, s:{}, s:{s:o}}", "Name", name, "Metadata", "Endpoints", "docker", docker);
    }
    json_object_set_new(meta, "Name", json_string(name));
    if (description && *description)
        json_object_set_new(json_get_object(meta, "Metadata"), "Description", json_string_lossy(description));
    if (!save(cli, name, meta, fields, error))
        return 1;
    print("%s\n", name);
    print_error("Successfully created context \"%s\"\n", name);
    return 0;
}

int cmd_context_update(struct cli *cli, const struct options *options, GError **error)
{
    const char *name = options->args[0], *description = options_string(options, "description", NULL);
    g_autoptr(json_t) fields = endpoint_fields(options), meta = NULL;
    if (!name_is_valid(name, error) || !check_fields(fields, error) || !(meta = context_load(cli->config_directory, name, error)))
        return 1;
    if (description)
        json_object_set_new(json_get_object(meta, "Metadata"), "Description", json_string_lossy(description));
    if (json_object_size(fields) > 0) {
        json_t *docker = docker_endpoint(cli, fields, error);
        if (!docker)
            return 1;
        json_object_set_new(json_get_object(meta, "Endpoints"), "docker", docker);
    }
    if (!save(cli, name, meta, fields, error))
        return 1;
    print("%s\n", name);
    print_error("Successfully updated context \"%s\"\n", name);
    return 0;
}

int cmd_context_use(struct cli *cli, const struct options *options, GError **error)
{
    if (options->n_args != 1)
        return error_set(error, TARE_ERROR_INVALID, "accepts 1 arg(s), received %u", options->n_args), 1;
    const char *name = options->args[0];
    bool is_default = strcmp(name, "default") == 0;
    g_autoptr(json_t) meta = NULL;
    if (!is_default && (!name_is_valid(name, error) || !(meta = context_load(cli->config_directory, name, error))))
        return 1;
    const char *before = json_get_string(cli->config, "currentContext", "");
    if (strcmp(before, is_default ? "" : name) != 0) {
        if (is_default)
            json_object_del(cli->config, "currentContext");
        else
            json_object_set_new(cli->config, "currentContext", json_string(name));
        if (!config_file_save(cli->config_directory, cli->config, error))
            return 1;
    }
    print("%s\n", name);
    print_error("Current context is now \"%s\"\n", name);
    const char *variable = g_getenv("TARE_HOST") ? "TARE_HOST" : "DOCKER_HOST", *value = g_getenv(variable);
    if (!is_default && value && *value)
        print_error("Warning: %s environment variable overrides the active context. To use \"%s\", either set the global "
                    "--context flag, or unset %s environment variable.\n",
                    variable, name, variable);
    return 0;
}

int cmd_context_show(struct cli *cli, const struct options *options, GError **error)
{
    print("%s\n", current_context(cli));
    return 0;
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(json_get_string(*(json_t *const *)a, "Name", ""), json_get_string(*(json_t *const *)b, "Name", ""));
}

static void release(gpointer value)
{
    json_decref(value);
}

/* Every context's meta.json, sorted, without the default one. */
static GPtrArray *load_all(struct cli *cli)
{
    GPtrArray *all = g_ptr_array_new_with_free_func(release);
    g_autofree char *directory = g_build_filename(cli->config_directory, "contexts", "meta", NULL);
    g_autoptr(GDir) entries = g_dir_open(directory, 0, NULL);
    for (const char *name; entries && (name = g_dir_read_name(entries));) {
        g_autofree char *path = g_build_filename(directory, name, "meta.json", NULL), *text = NULL;
        size_t length;
        json_t *meta = file_read(AT_FDCWD, path, MATERIAL_MAX, &text, &length, NULL)
                           ? json_parse(text, length, MATERIAL_MAX, path, NULL)
                           : NULL;
        if (meta)
            g_ptr_array_add(all, meta);
    }
    g_ptr_array_sort(all, by_name);
    return all;
}

static char *default_host(struct cli *cli)
{
    const char *const *hosts = options_list(cli->global, "host");
    const char *host, *context;
    struct host_sources sources = { .flag_host = hosts[0],
                                    .tare_host = g_getenv("TARE_HOST"),
                                    .docker_host = g_getenv("DOCKER_HOST") };
    host_choose(&sources, &host, &context);
    bool docker = strcmp(cli->program, "docker") == 0 && access("/run/tare/tare.sock", F_OK) != 0;
    return g_strdup(host ? host : docker ? "unix:///var/run/docker.sock" : "unix:///run/tare/tare.sock");
}

static json_t *describe(const char *name, const char *description, const char *host, bool current)
{
    return json_pack("{s:s, s:s, s:s, s:b, s:s}", "Name", name, "Description", description, "DockerEndpoint", host, "Current",
                     current, "Error", "");
}

int cmd_context_ls(struct cli *cli, const struct options *options, GError **error)
{
    static const struct list_field fields[] = {
        { "Name", "NAME" }, { "Description", "DESCRIPTION" }, { "DockerEndpoint", "DOCKER ENDPOINT" }, { "Error", "ERROR" },
        { "Current", "" },  { NULL, "clientContextContext" }
    };
    bool quiet = options_bool(options, "quiet", false);
    struct list *list = list_new(fields, options_string(options, "format", NULL),
                                 "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
                                 quiet ? "{{.Name}}" : NULL, error);
    if (!list)
        return 1;
    const char *current = current_context(cli);
    g_autofree char *host = default_host(cli);
    g_autoptr(GPtrArray) all = load_all(cli);
    bool ok = true, shown = false;
    for (guint i = 0; ok && i <= all->len; i++) {
        const char *name = i < all->len ? json_get_string(all->pdata[i], "Name", "") : NULL;
        if (!shown && (!name || strcmp(name, "default") > 0)) {
            shown = true;
            ok = list_add(list,
                          describe("default", "Current DOCKER_HOST based configuration", host, strcmp(current, "default") == 0),
                          error);
        }
        if (ok && name)
            ok = list_add(
                list,
                describe(name, json_get_string(json_get_object(all->pdata[i], "Metadata"), "Description", ""),
                         json_get_string(json_get_object(json_get_object(all->pdata[i], "Endpoints"), "docker"), "Host", ""),
                         strcmp(current, name) == 0),
                error);
    }
    if (ok)
        list_finish(list, error);
    else
        list_free(list);
    const char *variable = g_getenv("TARE_HOST") ? "TARE_HOST" : "DOCKER_HOST", *value = g_getenv(variable);
    if (ok && !quiet && value && *value)
        print_error("Warning: %s environment variable overrides the active context. To use a context, either set the global "
                    "--context flag, or unset %s "
                    "environment variable.\n",
                    variable, variable);
    return ok ? 0 : 1;
}

static json_t *tls_files(struct cli *cli, const char *name)
{
    json_t *material = json_object(), *files = json_array();
    g_autofree char *folder = context_path(cli->config_directory, "tls", name);
    static const char *const names[] = { "ca.pem", "cert.pem", "key.pem" };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(folder, "docker", names[i], NULL);
        if (access(path, R_OK) == 0)
            json_array_append_new(files, json_string(names[i]));
    }
    if (json_array_size(files) > 0)
        json_object_set(material, "docker", files);
    json_decref(files);
    return material;
}

static json_t *inspect_one(struct cli *cli, const char *name, GError **error)
{
    if (strcmp(name, "default") == 0) {
        g_autofree char *host = default_host(cli);
        return json_pack("{s:s, s:{}, s:{s:{s:s, s:b}}, s:{}, s:{s:s, s:s}}", "Name", "default", "Metadata", "Endpoints",
                         "docker", "Host", host, "SkipTLSVerify", 0, "TLSMaterial", "Storage", "MetadataPath", "<IN MEMORY>",
                         "TLSPath", "<IN MEMORY>");
    }
    json_t *meta = context_load(cli->config_directory, name, error);
    if (!meta)
        return NULL;
    g_autofree char *folder = context_path(cli->config_directory, "meta", name),
                    *tls = context_path(cli->config_directory, "tls", name);
    json_object_set_new(meta, "TLSMaterial", tls_files(cli, name));
    json_object_set_new(meta, "Storage", json_pack("{s:s, s:s}", "MetadataPath", folder, "TLSPath", tls));
    return meta;
}

/* The status, as inspect's elsewhere. */
static int show_by_template(const char *format, json_t *all, GString *problems, GError **error)
{
    struct template *template = template_parse(format, error);
    g_autoptr(GString) out = g_string_new(NULL);
    size_t i;
    json_t *meta;
    if (!template) {
        g_prefix_error(error, "template parsing error: ");
        return 64;
    }
    json_array_foreach(all, i, meta)
    {
        g_autoptr(GError) problem = NULL;
        gsize before = out->len;
        if (template_execute(template, "context.contextWithTLSListing", meta, 0, out, &problem)) {
            g_string_append_c(out, '\n');
            continue;
        }
        g_string_truncate(out, before);
        g_prefix_error(&problem, "template parsing error: ");
        errors_add(problems, &problem);
    }
    template_free(template);
    print("%s", out->len ? out->str : "\n");
    return errors_finish(problems, error);
}

int cmd_context_inspect(struct cli *cli, const struct options *options, GError **error)
{
    const char *format = options_string(options, "format", NULL), *current[] = { current_context(cli), NULL };
    g_autoptr(json_t) all = json_array();
    g_autoptr(GString) problems = g_string_new(NULL);
    for (const char *const *name = options->n_args ? (const char *const *)options->args : current; *name; name++) {
        g_autoptr(GError) problem = NULL;
        json_t *meta = inspect_one(cli, *name, &problem);
        if (meta)
            json_array_append_new(all, meta);
        else
            errors_add(problems, &problem);
    }
    if (format && strcmp(format, "json") != 0)
        return show_by_template(format, all, problems, error);
    g_autofree char *text = json_text(all), *indented = json_indent_raw(text, strlen(text));
    print("%s\n", format ? text : indented);
    return errors_finish(problems, error);
}

static bool remove_one(struct cli *cli, const char *name, bool force, const char *current, GError **error)
{
    g_autofree char *folder = context_path(cli->config_directory, "meta", name),
                    *tls = context_path(cli->config_directory, "tls", name);
    if (strcmp(name, "default") == 0)
        return error_set(error, TARE_ERROR_INVALID, "context \"default\" cannot be removed");
    if (strcmp(name, current) == 0 && !force)
        return error_set(error, TARE_ERROR_CONFLICT, "context \"%s\" is in use, set -f flag to force remove", name);
    if (strcmp(name, json_get_string(cli->config, "currentContext", "")) == 0) {
        json_object_del(cli->config, "currentContext");
        if (!config_file_save(cli->config_directory, cli->config, error))
            return false;
    }
    if (!force && access(folder, F_OK) != 0)
        return error_set(error, TARE_ERROR_NOT_FOUND, "context \"%s\" does not exist", name);
    return dir_remove_tree(AT_FDCWD, folder, error) && dir_remove_tree(AT_FDCWD, tls, error);
}

int cmd_context_rm(struct cli *cli, const struct options *options, GError **error)
{
    g_autoptr(GString) problems = g_string_new(NULL);
    g_autofree char *current = g_strdup(current_context(cli));
    for (char **name = options->args; *name; name++) {
        g_autoptr(GError) problem = NULL;
        if (remove_one(cli, *name, options_bool(options, "force", false), current, &problem))
            print("%s\n", *name);
        else
            errors_add(problems, &problem);
    }
    return errors_finish(problems, error);
}
