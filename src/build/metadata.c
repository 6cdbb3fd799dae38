/* Instructions that change the run config and nothing else; each also says what the history shows for it. */
#include "base/timestamp.h"
#include "base/parse.h"
#include "base/signal_name.h"
#include "build/build-internal.h"

#include <string.h>

struct change {
    struct metadata *metadata;
    const struct build_step *step;
    GString *comment;
    char *note;
};
typedef bool (*change_func)(struct change *change, GError **error);

static json_t *map_member(json_t *config, const char *name)
{
    json_t *map = json_get_object(config, name);

    if (!map) {
        map = json_object();
        json_object_set_new(config, name, map);
    }
    return map;
}

static json_t *list_member(json_t *config, const char *name)
{
    json_t *list = json_get_array(config, name);

    if (!list) {
        list = json_array();
        json_object_set_new(config, name, list);
    }
    return list;
}

static void set_env(json_t *config, const char *name, const char *value)
{
    g_autofree char *text = g_strconcat(name, "=", value, NULL);
    json_t *env = list_member(config, "Env"), *item;
    size_t i, length = strlen(name);

    json_array_foreach(env, i, item)
    {
        const char *old = json_string_value(item);

        if (old && strncmp(old, name, length) == 0 && (old[length] == '=' || !old[length])) {
            json_array_set_new(env, i, json_string_lossy(text));
            return;
        }
    }
    json_array_append_new(env, json_string_lossy(text));
}

static bool change_env(struct change *change, GError **error)
{
    for (char **arg = change->step->args; *arg; arg += 2) {
        if (!**arg)
            return error_set(error, TARE_ERROR_INVALID, "ENV names can not be blank");
        set_env(change->metadata->config, arg[0], arg[1]);
        g_string_append_printf(change->comment, " %s=%s", arg[0], arg[1]);
    }
    return true;
}

static bool change_label(struct change *change, GError **error)
{
    json_t *labels = map_member(change->metadata->config, "Labels");

    for (char **arg = change->step->args; *arg; arg += 2) {
        if (json_object_set_new(labels, arg[0], json_string_lossy(arg[1])) < 0)
            return error_set(error, TARE_ERROR_INVALID, "label name is not valid UTF-8");
        g_string_append_printf(change->comment, " %s=%s", arg[0], arg[1]);
    }
    return true;
}

static bool change_maintainer(struct change *change, GError **error)
{
    g_free(change->metadata->maintainer);
    change->metadata->maintainer = g_strdup(change->step->args[0]);
    g_string_append_printf(change->comment, " %s", change->step->args[0]);
    return true;
}

/* "first[-last][/protocol]", or with Docker's ip:host: before it, which counts for nothing here. */
static bool expose(json_t *ports, const char *text, GError **error)
{
    const char *colon = strrchr(text, ':'), *port = colon ? colon + 1 : text, *slash = strchr(port, '/');
    g_autofree char *range = slash ? g_strndup(port, (gsize)(slash - port)) : g_strdup(port);
    g_autofree char *protocol = g_ascii_strdown(slash && slash[1] ? slash + 1 : "tcp", -1);
    g_autofree char *first_text = g_strndup(range, strcspn(range, "-"));
    guint64 first, last;

    if (!*range)
        return error_set(error, TARE_ERROR_INVALID, "No port specified: %s<empty>", text);
    if (!parse_uint(first_text, 65535, &first) ||
        !parse_uint(strchr(range, '-') ? strchr(range, '-') + 1 : range, 65535, &last) || last < first)
        return error_set(error, TARE_ERROR_INVALID, "Invalid containerPort: %s", range);
    if (!g_str_equal(protocol, "tcp") && !g_str_equal(protocol, "udp") && !g_str_equal(protocol, "sctp"))
        return error_set(error, TARE_ERROR_INVALID, "Invalid proto: %s", protocol);
    for (; first <= last; first++) {
        g_autofree char *name = g_strdup_printf("%u/%s", (unsigned)first, protocol);

        json_object_set_new(ports, name, json_object());
    }
    return true;
}

static bool change_expose(struct change *change, GError **error)
{
    const json_t *old = json_get_object(change->metadata->config, "ExposedPorts");
    g_autoptr(json_t) ports = old ? json_deep_copy(old) : json_object();

    for (char **arg = change->step->args; *arg; arg++) {
        if (!expose(ports, *arg, error))
            return false;
        g_string_append_printf(change->comment, " %s", *arg);
    }
    if (json_object_size(ports) > 0)
        json_object_set(change->metadata->config, "ExposedPorts", ports);
    return true;
}

static bool change_user(struct change *change, GError **error)
{
    json_object_set_new(change->metadata->config, "User", json_string_lossy(change->step->args[0]));
    g_string_append_printf(change->comment, " %s", change->step->args[0]);
    return true;
}

static bool change_volume(struct change *change, GError **error)
{
    json_t *volumes = map_member(change->metadata->config, "Volumes");
    g_autofree char *list = go_list((const char *const *)change->step->args);

    for (char **arg = change->step->args; *arg; arg++) {
        if (!**arg)
            return error_set(error, TARE_ERROR_INVALID, "VOLUME specified can not be an empty string");
        if (json_object_set_new(volumes, *arg, json_object()) < 0)
            return error_set(error, TARE_ERROR_INVALID, "volume path is not valid UTF-8");
    }
    g_string_append_printf(change->comment, " %s", list);
    return true;
}

static bool change_workdir(struct change *change, GError **error)
{
    const char *wanted = change->step->args[0];
    g_autofree char *path = NULL;

    if (!*wanted)
        return error_set(error, TARE_ERROR_INVALID, "cannot normalize nothing");
    path = *wanted == '/' ? go_clean_path(wanted)
                          : go_join_path(json_get_string(change->metadata->config, "WorkingDir", ""), wanted);
    json_object_set_new(change->metadata->config, "WorkingDir", json_string_lossy(path));
    g_string_append_printf(change->comment, " %s", path);
    return true;
}

json_t *metadata_command_line(const json_t *config, const struct build_step *step)
{
    json_t *words;

    /* ENTRYPOINT without words is none at all; CMD and RUN then are the bare shell. */
    if (step->kind == STEP_ENTRYPOINT && !step->args[0])
        return json_null();
    if (step->is_json)
        return json_from_strv((const char *const *)step->args);
    words = run_config_shell(config);
    for (char **arg = step->args; *arg; arg++)
        json_array_append_new(words, json_string_lossy(*arg));
    return words;
}

static void append_quoted(GString *comment, const json_t *words)
{
    g_auto(GStrv) strings = json_is_array(words) ? json_string_array(words) : NULL;
    g_autofree char *list = go_quote_list((const char *const *)strings);

    g_string_append_printf(comment, " %s", list);
}

static bool change_cmd(struct change *change, GError **error)
{
    json_t *words = metadata_command_line(change->metadata->config, change->step);

    append_quoted(change->comment, words);
    json_object_set_new(change->metadata->config, "Cmd", words);
    if (change->step->args[0])
        change->metadata->cmd_set = true;
    return true;
}

static bool change_entrypoint(struct change *change, GError **error)
{
    json_t *words = metadata_command_line(change->metadata->config, change->step);

    append_quoted(change->comment, words);
    json_object_set_new(change->metadata->config, "Entrypoint", words);
    if (!change->metadata->cmd_set)
        json_object_set_new(change->metadata->config, "Cmd", json_null());
    return true;
}

static bool change_shell(struct change *change, GError **error)
{
    g_autofree char *list = go_list((const char *const *)change->step->args);

    json_object_set_new(change->metadata->config, "Shell", json_from_strv((const char *const *)change->step->args));
    g_string_append_printf(change->comment, " %s", list);
    return true;
}

static bool change_stopsignal(struct change *change, GError **error)
{
    const char *text = change->step->args[0];
    int number;

    if (!signal_name_parse(text, &number))
        return error_set(error, TARE_ERROR_INVALID, "Invalid signal: %s", text);
    json_object_set_new(change->metadata->config, "StopSignal", json_string_lossy(text));
    g_string_append_printf(change->comment, " %s", text);
    return true;
}

/* Go's %q of the struct: &{["CMD" "x"] "5s" "0s" "0s" '\x00'}. */
static void append_health(GString *comment, const json_t *health)
{
    static const char *const durations[] = { "Interval", "Timeout", "StartPeriod" };
    g_auto(GStrv) test = json_string_array(json_get_array(health, "Test"));
    g_autofree char *list = go_quote_list((const char *const *)test);
    g_autofree char *retries = go_quote_rune(json_get_int(health, "Retries", 0));

    g_string_append_printf(comment, " &{%s", list);
    for (size_t i = 0; i < G_N_ELEMENTS(durations); i++) {
        g_autofree char *duration = duration_go(json_get_int(health, durations[i], 0));

        g_string_append_printf(comment, " \"%s\"", duration);
    }
    g_string_append_printf(comment, " %s}", retries);
}

static bool change_healthcheck(struct change *change, GError **error)
{
    json_t *config = change->metadata->config, *old = json_get_object(config, "Healthcheck");
    json_t *health = json_deep_copy(change->step->health);
    const json_t *old_test = json_get_array(old, "Test");
    const char *name;
    json_t *value;

    if (json_array_size(old_test) > 0 && g_strcmp0(json_string_value(json_array_get(old_test, 0)), "NONE") != 0) {
        g_auto(GStrv) words = json_string_array(old_test);
        g_autofree char *list = go_list((const char *const *)words);

        change->note = g_strdup_printf("Note: overriding previous HEALTHCHECK: %s\n", list);
    }
    append_health(change->comment, health);
    /* Times that are not given stay those of before, as when a container is made from the image. */
    json_object_foreach(old, name, value) if (!json_object_get(health, name)) json_object_set(health, name, value);
    json_object_set_new(config, "Healthcheck", health);
    return true;
}

static bool change_onbuild(struct change *change, GError **error)
{
    json_array_append_new(list_member(change->metadata->config, "OnBuild"), json_string_lossy(change->step->args[0]));
    g_string_append_printf(change->comment, " %s", change->step->args[0]);
    return true;
}

static bool change_arg(struct change *change, GError **error)
{
    for (char **arg = change->step->args; *arg; arg++) {
        const char *equals = strchr(*arg, '=');
        g_autofree char *name = g_strndup(*arg, strcspn(*arg, "="));

        build_args_declare(change->metadata->args, name, equals ? equals + 1 : NULL);
        g_string_append_printf(change->comment, " %s", *arg);
    }
    return true;
}

static const change_func changes[STEP_N_KINDS] = {
    [STEP_ARG] = change_arg,
    [STEP_CMD] = change_cmd,
    [STEP_ENTRYPOINT] = change_entrypoint,
    [STEP_ENV] = change_env,
    [STEP_EXPOSE] = change_expose,
    [STEP_HEALTHCHECK] = change_healthcheck,
    [STEP_LABEL] = change_label,
    [STEP_MAINTAINER] = change_maintainer,
    [STEP_ONBUILD] = change_onbuild,
    [STEP_SHELL] = change_shell,
    [STEP_STOPSIGNAL] = change_stopsignal,
    [STEP_USER] = change_user,
    [STEP_VOLUME] = change_volume,
    [STEP_WORKDIR] = change_workdir,
};

bool metadata_apply(struct metadata *metadata, const struct build_step *step, char **ret_comment, char **ret_note, GError **error)
{
    struct change change = { .metadata = metadata, .step = step, .comment = g_string_new(step_kind_name(step->kind)) };

    g_assert(changes[step->kind]);
    if (!changes[step->kind](&change, error)) {
        g_string_free(change.comment, TRUE);
        g_free(change.note);
        return false;
    }
    *ret_comment = g_string_free(change.comment, FALSE);
    *ret_note = change.note;
    return true;
}

/* ---- import -c, commit -c ---- */

static const enum step_kind allowed_changes[] = {
    STEP_CMD,     STEP_ENTRYPOINT, STEP_ENV,  STEP_EXPOSE, STEP_HEALTHCHECK, STEP_LABEL,
    STEP_ONBUILD, STEP_STOPSIGNAL, STEP_USER, STEP_VOLUME, STEP_WORKDIR,
};

static bool is_allowed_change(const char *command)
{
    for (size_t i = 0; i < G_N_ELEMENTS(allowed_changes); i++)
        if (g_ascii_strcasecmp(step_kind_name(allowed_changes[i]), command) == 0)
            return true;
    return false;
}

static bool apply_change(struct metadata *metadata, const struct build_step *step, char escape, GError **error)
{
    g_autoptr(GHashTable) variables = build_args_variables(metadata->args, json_get_array(metadata->config, "Env"));
    g_autofree char *comment = NULL, *note = NULL;
    struct build_step *expanded;
    bool good;

    if (!build_step_expand(step, variables, escape, &expanded, error))
        return false;
    good = metadata_apply(metadata, expanded, &comment, &note, error);
    build_step_free(expanded);
    return good;
}

static bool apply_changes(const struct dockerfile *dockerfile, struct metadata *metadata, GError **error)
{
    g_autoptr(GPtrArray) steps = g_ptr_array_new_with_free_func((GDestroyNotify)build_step_free);

    /* All are looked at before the first counts. */
    for (guint i = 0; i < dockerfile->instructions->len; i++) {
        const struct dockerfile_instruction *instruction = dockerfile->instructions->pdata[i];
        struct build_step *step;

        if (!is_allowed_change(instruction->command))
            return error_set(error, TARE_ERROR_INVALID, "%s is not a valid change command", instruction->command);
        if (!build_step_new(instruction, &step, error))
            return false;
        g_ptr_array_add(steps, step);
    }
    for (guint i = 0; i < steps->len; i++)
        if (!apply_change(metadata, steps->pdata[i], dockerfile->escape, error))
            return false;
    return true;
}

bool build_apply_changes(const json_t *run_config, const char *const *given, json_t **ret, GError **error)
{
    g_autofree char *text = given ? g_strjoinv("\n", (char **)given) : g_strdup("");
    struct metadata metadata = { 0 };
    struct dockerfile *dockerfile;
    bool good;

    if (!given || !given[0]) {
        *ret = run_config ? json_deep_copy(run_config) : json_object();
        return true;
    }
    if (!dockerfile_parse(text, strlen(text), &dockerfile, error))
        return false;
    metadata.config = run_config ? json_deep_copy(run_config) : json_object();
    metadata.args = build_args_new(NULL);
    good = apply_changes(dockerfile, &metadata, error);
    if (good)
        *ret = image_canonical_config(metadata.config);
    json_decref(metadata.config);
    build_args_free(metadata.args);
    dockerfile_free(dockerfile);
    return good;
}
