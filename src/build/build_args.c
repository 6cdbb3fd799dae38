/* ARG and --build-arg: which names hold in a stage, and with which values. */
#include "base/platform.h"
#include "build/build-internal.h"

#include <string.h>

struct build_args {
    json_t *given;          /* {"name": "value" or null} */
    GHashTable *declared;   /* in this stage: name → default or NULL */
    GHashTable *meta;       /* before the first FROM */
    GHashTable *referenced; /* by any ARG so far */
    GHashTable *predefined; /* TARGETPLATFORM and its like: for FROM as they are, in a stage where ARG names them */
    GHashTable *inherited;  /* name → value: what the stage that this one is based on had declared */
};

static const char *const proxies[] = {
    "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY",
    "ftp_proxy",  "NO_PROXY",   "no_proxy",    "ALL_PROXY",   "all_proxy",
};

static bool is_proxy(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(proxies); i++)
        if (g_str_equal(proxies[i], name))
            return true;
    return false;
}

struct build_args *build_args_new(const json_t *given)
{
    struct build_args *args = g_new0(struct build_args, 1);

    args->given = given ? json_incref((json_t *)given) : json_object();
    args->declared = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    args->meta = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    args->referenced = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    args->predefined = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    args->inherited = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    build_args_predefine(args, NULL, NULL);
    return args;
}

void build_args_free(struct build_args *args)
{
    if (!args)
        return;
    json_decref(args->given);
    g_hash_table_unref(args->declared);
    g_hash_table_unref(args->meta);
    g_hash_table_unref(args->referenced);
    g_hash_table_unref(args->predefined);
    g_hash_table_unref(args->inherited);
    g_free(args);
}

static void predefine_platform(struct build_args *args, const char *prefix, const char *platform)
{
    g_auto(GStrv) parts = g_strsplit(platform, "/", 3);
    static const char *const names[] = { "OS", "ARCH", "VARIANT" };
    guint n = g_strv_length(parts);

    g_hash_table_replace(args->predefined, g_strconcat(prefix, "PLATFORM", NULL), g_strdup(platform));
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        g_hash_table_replace(args->predefined, g_strconcat(prefix, names[i], NULL), g_strdup(i < n ? parts[i] : ""));
}

void build_args_predefine(struct build_args *args, const char *platform, const char *target)
{
    g_autofree char *own = g_strconcat("linux/", platform_architecture(), NULL);

    predefine_platform(args, "BUILD", own);
    predefine_platform(args, "TARGET", platform && *platform ? platform : own);
    g_hash_table_replace(args->predefined, g_strdup("TARGETSTAGE"), g_strdup(target && *target ? target : "default"));
}

static void copy_into(GHashTable *to, GHashTable *from)
{
    GHashTableIter iter;
    gpointer name, value;

    g_hash_table_iter_init(&iter, from);
    while (g_hash_table_iter_next(&iter, &name, &value))
        g_hash_table_replace(to, g_strdup(name), g_strdup(value));
}

struct build_args *build_args_new_stage(const struct build_args *args)
{
    struct build_args *stage = build_args_new(args->given);

    copy_into(stage->meta, args->meta);
    copy_into(stage->predefined, args->predefined);
    return stage;
}

void build_args_merge(struct build_args *args, const struct build_args *stage)
{
    GHashTableIter iter;
    gpointer name;

    g_hash_table_iter_init(&iter, stage->referenced);
    while (g_hash_table_iter_next(&iter, &name, NULL))
        g_hash_table_add(args->referenced, g_strdup(name));
}

void build_args_declare(struct build_args *args, const char *name, const char *value)
{
    g_hash_table_replace(args->declared, g_strdup(name), g_strdup(value));
    g_hash_table_add(args->referenced, g_strdup(name));
}

void build_args_declare_meta(struct build_args *args, const char *name, const char *value)
{
    build_args_declare(args, name, value);
    g_hash_table_replace(args->meta, g_strdup(name), g_strdup(value));
}

bool build_args_declare_all_meta(struct build_args *args, const struct build_plan *plan, GError **error)
{
    for (guint i = 0; i < plan->meta_args->len; i++)
        if (!build_args_declare_step(args, plan->meta_args->pdata[i], plan->escape, error))
            return false;
    return true;
}

bool build_args_declare_step(struct build_args *args, const struct build_step *step, char escape, GError **error)
{
    g_autoptr(GHashTable) variables = build_args_meta_variables(args);
    struct build_step *expanded;

    if (!build_step_expand(step, variables, escape, &expanded, error))
        return false;
    for (char **arg = expanded->args; *arg; arg++) {
        g_autofree char *name = g_strndup(*arg, strcspn(*arg, "="));

        build_args_declare_meta(args, name, strchr(*arg, '=') ? strchr(*arg, '=') + 1 : NULL);
    }
    build_step_free(expanded);
    return true;
}

/* What was given wins, then the default, then the default of before the first FROM. NULL: not set at all. */
static const char *value_of(const struct build_args *args, GHashTable *declared, const char *name)
{
    const char *value = json_get_string(args->given, name, NULL);

    if (!value)
        value = g_hash_table_lookup(declared, name);
    if (!value)
        value = g_hash_table_lookup(args->meta, name);
    return value ? value : g_hash_table_lookup(args->predefined, name);
}

static GHashTable *values(const struct build_args *args, GHashTable *declared)
{
    GHashTable *table = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    GHashTableIter iter;
    gpointer name;

    for (size_t i = 0; i < G_N_ELEMENTS(proxies); i++) {
        const char *value = value_of(args, declared, proxies[i]);

        if (value)
            g_hash_table_replace(table, g_strdup(proxies[i]), g_strdup(value));
    }
    g_hash_table_iter_init(&iter, declared);
    while (g_hash_table_iter_next(&iter, &name, NULL)) {
        const char *value = value_of(args, declared, name);

        if (value)
            g_hash_table_replace(table, g_strdup(name), g_strdup(value));
    }
    return table;
}

/* A declaration of the stage's own counts more than one that it inherited. */
static GHashTable *stage_values(const struct build_args *args)
{
    GHashTable *table = values(args, args->declared);
    GHashTableIter iter;
    gpointer name, value;

    g_hash_table_iter_init(&iter, args->inherited);
    while (g_hash_table_iter_next(&iter, &name, &value))
        if (!g_hash_table_contains(args->declared, name))
            g_hash_table_replace(table, g_strdup(name), g_strdup(value));
    return table;
}

GHashTable *build_args_variables(const struct build_args *args, const json_t *env)
{
    GHashTable *table = stage_values(args);
    json_t *item;
    size_t i;

    json_array_foreach((json_t *)env, i, item)
    {
        const char *text = json_string_value(item), *equals = text ? strchr(text, '=') : NULL;

        if (equals)
            g_hash_table_replace(table, g_strndup(text, (gsize)(equals - text)), g_strdup(equals + 1));
    }
    return table;
}

GHashTable *build_args_meta_variables(const struct build_args *args)
{
    GHashTable *table = values(args, args->meta);
    GHashTableIter iter;
    gpointer name;

    g_hash_table_iter_init(&iter, args->predefined);
    while (g_hash_table_iter_next(&iter, &name, NULL))
        g_hash_table_replace(table, g_strdup(name), g_strdup(value_of(args, args->meta, name)));
    return table;
}

void build_args_inherit(struct build_args *args, const struct build_args *base)
{
    g_autoptr(GHashTable) own = values(base, base->declared);

    copy_into(args->inherited, base->inherited);
    copy_into(args->inherited, own);
}

static bool env_has(const json_t *env, const char *name)
{
    size_t i, length = strlen(name);
    json_t *item;

    json_array_foreach((json_t *)env, i, item)
    {
        const char *text = json_string_value(item);

        if (text && strncmp(text, name, length) == 0 && (text[length] == '=' || !text[length]))
            return true;
    }
    return false;
}

static gint compare_texts(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static char **sorted(GPtrArray *texts)
{
    g_ptr_array_sort(texts, compare_texts);
    g_ptr_array_add(texts, NULL);
    return (char **)g_ptr_array_free(texts, FALSE);
}

char **build_args_env(const struct build_args *args, const json_t *env)
{
    g_autoptr(GHashTable) table = stage_values(args);
    GPtrArray *texts = g_ptr_array_new();
    GHashTableIter iter;
    gpointer name, value;

    g_hash_table_iter_init(&iter, table);
    while (g_hash_table_iter_next(&iter, &name, &value))
        if (!env_has(env, name))
            g_ptr_array_add(texts, g_strconcat(name, "=", value, NULL));
    return sorted(texts);
}

bool build_args_is_transparent(const struct build_args *args, const char *name)
{
    return is_proxy(name) && !g_hash_table_contains(args->declared, name);
}

bool build_args_is_declared(const struct build_args *args, const char *name)
{
    return g_hash_table_contains(args->declared, name) || g_hash_table_contains(args->inherited, name);
}

bool build_args_is_inherited(const struct build_args *args, const char *name)
{
    return g_hash_table_contains(args->inherited, name) && !g_hash_table_contains(args->declared, name);
}

char **build_args_unconsumed(const struct build_args *args)
{
    GPtrArray *names = g_ptr_array_new();
    const char *name;
    json_t *value;

    json_object_foreach(args->given, name, value) if (!is_proxy(name) && !g_hash_table_contains(args->predefined, name) &&
                                                      !g_hash_table_contains(args->referenced, name))
        g_ptr_array_add(names, g_strdup(name));
    return sorted(names);
}
