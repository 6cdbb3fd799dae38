/* containerd's hosts.toml: as much of TOML as such files use, strictly: comments, bare and quoted keys, strings, booleans,
 * numbers, arrays (nested ones for client certificates), and tables [host."URL"] and [host."URL".header]. Pure. */
#include "registry/registry-internal.h"

#include "base/parse.h"

#include <string.h>

enum { DEPTH_MAX = 4, HOSTS_MAX = 64, VALUES_MAX = 256, KEY_PARTS_MAX = 8 };

struct scanner {
    const char *at, *end;
    unsigned line;
};

static bool wrong(const struct scanner *scanner, const char *what, GError **error)
{
    return error_set(error, TARE_ERROR_INVALID, "line %u: %s", scanner->line, what);
}

static char peek(const struct scanner *scanner)
{
    return scanner->at < scanner->end ? *scanner->at : '\0';
}

static void skip_blanks(struct scanner *scanner, bool lines)
{
    for (; scanner->at < scanner->end; scanner->at++) {
        char c = *scanner->at;
        if (c == '#')
            while (scanner->at < scanner->end && *scanner->at != '\n')
                scanner->at++;
        if (scanner->at == scanner->end)
            return;
        c = *scanner->at;
        if (c == '\n' && !lines)
            return;
        if (c != ' ' && c != '\t' && c != '\r' && c != '\n')
            return;
        scanner->line += c == '\n';
    }
}

static bool scan_escape(struct scanner *scanner, GString *out, GError **error)
{
    static const char from[] = "btnfr\"\\", to[] = "\b\t\n\f\r\"\\";
    char c = peek(scanner);
    const char *found = c ? strchr(from, c) : NULL;
    if (!found)
        return wrong(scanner, "this escape in a string is not supported", error);
    g_string_append_c(out, to[found - from]);
    scanner->at++;
    return true;
}

static bool scan_string(struct scanner *scanner, char **ret, GError **error)
{
    char quote = *scanner->at++;
    g_autoptr(GString) out = g_string_new(NULL);
    for (;;) {
        char c = peek(scanner);
        if (scanner->at == scanner->end || c == '\n' || c == '\0')
            return wrong(scanner, "a string has no end", error);
        scanner->at++;
        if (c == quote)
            break;
        if (c == '\\' && quote == '"') {
            if (!scan_escape(scanner, out, error))
                return false;
        } else {
            g_string_append_c(out, c);
        }
    }
    *ret = g_strdup(out->str);
    return true;
}

static bool is_bare(char c)
{
    return g_ascii_isalnum(c) || c == '_' || c == '-';
}

static bool scan_key_part(struct scanner *scanner, char **ret, GError **error)
{
    char c = peek(scanner);
    if (c == '"' || c == '\'')
        return scan_string(scanner, ret, error);
    const char *start = scanner->at;
    while (scanner->at < scanner->end && is_bare(*scanner->at))
        scanner->at++;
    if (scanner->at == start)
        return wrong(scanner, "a key is expected", error);
    *ret = g_strndup(start, (gsize)(scanner->at - start));
    return true;
}

static bool scan_key(struct scanner *scanner, GPtrArray *parts, GError **error)
{
    for (;;) {
        char *part = NULL;
        if (parts->len == KEY_PARTS_MAX)
            return wrong(scanner, "a key has too many parts", error);
        if (!scan_key_part(scanner, &part, error))
            return false;
        g_ptr_array_add(parts, part);
        skip_blanks(scanner, false);
        if (peek(scanner) != '.')
            return true;
        scanner->at++;
        skip_blanks(scanner, false);
    }
}

/* ---- values, as JSON ---- */

static bool scan_value(struct scanner *scanner, unsigned depth, json_t **ret, GError **error);

static bool scan_array(struct scanner *scanner, unsigned depth, json_t **ret, GError **error)
{
    g_autoptr(json_t) array = json_array();
    if (depth == DEPTH_MAX)
        return wrong(scanner, "arrays are nested too deeply", error);
    scanner->at++;
    for (;;) {
        json_t *item = NULL;
        skip_blanks(scanner, true);
        if (peek(scanner) == ']')
            break;
        if (json_array_size(array) == VALUES_MAX)
            return wrong(scanner, "an array is too long", error);
        if (!scan_value(scanner, depth + 1, &item, error))
            return false;
        json_array_append_new(array, item);
        skip_blanks(scanner, true);
        if (peek(scanner) == ',')
            scanner->at++;
        else if (peek(scanner) != ']')
            return wrong(scanner, "an array has no end", error);
    }
    scanner->at++;
    *ret = g_steal_pointer(&array);
    return true;
}

static bool scan_word(struct scanner *scanner, json_t **ret, GError **error)
{
    const char *start = scanner->at;
    gint64 number;
    while (scanner->at < scanner->end && (is_bare(*scanner->at) || strchr("+.:", *scanner->at)))
        scanner->at++;
    g_autofree char *word = g_strndup(start, (gsize)(scanner->at - start));
    if (strcmp(word, "true") == 0)
        *ret = json_true();
    else if (strcmp(word, "false") == 0)
        *ret = json_false();
    else if (parse_int(word, G_MININT32, G_MAXINT32, &number))
        *ret = json_integer(number);
    else
        return wrong(scanner, "a value is expected", error);
    return true;
}

static bool scan_value(struct scanner *scanner, unsigned depth, json_t **ret, GError **error)
{
    char c = peek(scanner);
    if (c == '[')
        return scan_array(scanner, depth, ret, error);
    if (c != '"' && c != '\'')
        return scan_word(scanner, ret, error);
    g_autofree char *text = NULL;
    if (!scan_string(scanner, &text, error))
        return false;
    *ret = json_string_lossy(text);
    return true;
}

/* ---- the file ---- */

static struct hosts_entry *entry_new(const char *url)
{
    struct hosts_entry *entry = g_new0(struct hosts_entry, 1);
    entry->url = g_strdup(url);
    entry->authorities = g_ptr_array_new_with_free_func(g_free);
    entry->certificates = g_ptr_array_new_with_free_func(g_free);
    entry->keys = g_ptr_array_new_with_free_func(g_free);
    entry->headers = g_ptr_array_new_with_free_func(g_free);
    return entry;
}

static void entry_free(gpointer data)
{
    struct hosts_entry *entry = data;
    g_free(entry->url);
    g_ptr_array_unref(entry->authorities);
    g_ptr_array_unref(entry->certificates);
    g_ptr_array_unref(entry->keys);
    g_ptr_array_unref(entry->headers);
    g_free(entry);
}

void hosts_file_free(struct hosts_file *file)
{
    if (!file)
        return;
    entry_free(file->server);
    g_ptr_array_unref(file->hosts);
    g_free(file);
}

static struct hosts_entry *find_entry(struct hosts_file *file, const char *url)
{
    for (guint i = 0; i < file->hosts->len; i++) {
        struct hosts_entry *entry = file->hosts->pdata[i];
        if (strcmp(entry->url, url) == 0)
            return entry;
    }
    struct hosts_entry *entry = entry_new(url);
    g_ptr_array_add(file->hosts, entry);
    return entry;
}

static bool take_strings(const json_t *value, GPtrArray *to)
{
    size_t i;
    json_t *item;
    if (json_is_string(value))
        g_ptr_array_add(to, g_strdup(json_string_value(value)));
    else if (!json_is_array(value))
        return false;
    json_array_foreach(value, i, item)
    {
        if (!json_is_string(item))
            return false;
        g_ptr_array_add(to, g_strdup(json_string_value(item)));
    }
    return true;
}

/* "file", ["file", …] or [["certificate", "key"], …] */
static bool take_clients(const json_t *value, struct hosts_entry *entry)
{
    size_t i;
    json_t *item;
    if (json_is_string(value)) {
        g_ptr_array_add(entry->certificates, g_strdup(json_string_value(value)));
        g_ptr_array_add(entry->keys, NULL);
        return true;
    }
    if (!json_is_array(value))
        return false;
    json_array_foreach(value, i, item)
    {
        const char *certificate = json_string_value(json_is_array(item) ? json_array_get(item, 0) : item);
        const char *key = json_is_array(item) ? json_string_value(json_array_get(item, 1)) : NULL;
        if (!certificate)
            return false;
        g_ptr_array_add(entry->certificates, g_strdup(certificate));
        g_ptr_array_add(entry->keys, g_strdup(key && *key ? key : NULL));
    }
    return true;
}

static bool take_capabilities(const json_t *value, struct hosts_entry *entry)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    if (!take_strings(value, names))
        return false;
    entry->has_capabilities = true;
    for (guint i = 0; i < names->len; i++) {
        const char *name = names->pdata[i];
        bool *field = strcmp(name, "pull") == 0      ? &entry->can_pull
                      : strcmp(name, "push") == 0    ? &entry->can_push
                      : strcmp(name, "resolve") == 0 ? &entry->can_resolve
                                                     : NULL;
        if (!field)
            return false;
        *field = true;
    }
    return true;
}

static bool take_flag(const json_t *value, bool *ret)
{
    *ret = json_is_true(value);
    return json_is_boolean(value);
}

static bool take_timeout(const json_t *value, struct hosts_entry *entry)
{
    gint64 ns;
    if (!json_is_string(value) || !parse_duration_ns(json_string_value(value), &ns) || ns < 0)
        return false;
    entry->dial_timeout_s = (ns + 999999999) / 1000000000;
    return true;
}

static bool take_header(const char *name, const json_t *value, struct hosts_entry *entry)
{
    g_autoptr(GPtrArray) values = g_ptr_array_new_with_free_func(g_free);
    if (!take_strings(value, values))
        return false;
    for (guint i = 0; i < values->len; i++) {
        if (strpbrk(values->pdata[i], "\r\n") || strpbrk(name, "\r\n: "))
            return false;
        g_ptr_array_add(entry->headers, g_strdup_printf("%s: %s", name, (char *)values->pdata[i]));
    }
    return true;
}

/* Keys that we do not know are left alone, as containerd does. */
static bool take_member(struct hosts_file *file, struct hosts_entry *entry, const char *key, const json_t *value)
{
    if (strcmp(key, "server") == 0 && entry == file->server) {
        g_free(entry->url);
        entry->url = g_strdup(json_string_value(value));
        return json_is_string(value) && *entry->url;
    }
    if (strcmp(key, "capabilities") == 0)
        return take_capabilities(value, entry);
    if (strcmp(key, "ca") == 0)
        return take_strings(value, entry->authorities);
    if (strcmp(key, "client") == 0)
        return take_clients(value, entry);
    if (strcmp(key, "skip_verify") == 0)
        return take_flag(value, &entry->skip_verify);
    if (strcmp(key, "override_path") == 0)
        return take_flag(value, &entry->override_path);
    return strcmp(key, "dial_timeout") != 0 || take_timeout(value, entry);
}

/* The table that the following members are of. */
struct place {
    struct hosts_entry *entry; /* NULL: of no interest */
    bool in_headers;
};

static struct place find_place(struct hosts_file *file, const GPtrArray *parts)
{
    struct place place = { NULL, false };
    const char *first = parts->pdata[0];
    if (strcmp(first, "host") == 0 && parts->len >= 2 && parts->len <= 3 &&
        (parts->len == 2 || strcmp(parts->pdata[2], "header") == 0)) {
        place.entry = *(char *)parts->pdata[1] ? find_entry(file, parts->pdata[1]) : NULL;
        place.in_headers = parts->len == 3;
    } else if (strcmp(first, "header") == 0 && parts->len == 1) {
        place = (struct place){ file->server, true };
    }
    return place;
}

static bool scan_table(struct scanner *scanner, struct hosts_file *file, struct place *place, GError **error)
{
    g_autoptr(GPtrArray) parts = g_ptr_array_new_with_free_func(g_free);
    scanner->at++;
    if (peek(scanner) == '[')
        return wrong(scanner, "arrays of tables are not supported", error);
    skip_blanks(scanner, false);
    if (!scan_key(scanner, parts, error))
        return false;
    if (peek(scanner) != ']')
        return wrong(scanner, "a table's name has no end", error);
    scanner->at++;
    *place = find_place(file, parts);
    return file->hosts->len <= HOSTS_MAX || wrong(scanner, "too many hosts", error);
}

static bool scan_member(struct scanner *scanner, struct hosts_file *file, const struct place *place, GError **error)
{
    g_autoptr(GPtrArray) parts = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(json_t) value = NULL;
    if (!scan_key(scanner, parts, error))
        return false;
    if (peek(scanner) != '=')
        return wrong(scanner, "\"=\" is expected", error);
    scanner->at++;
    skip_blanks(scanner, false);
    if (!scan_value(scanner, 0, &value, error))
        return false;
    const char *key = parts->pdata[0];
    if (!place->entry || parts->len != 1)
        return true;
    bool ok = place->in_headers ? take_header(key, value, place->entry) : take_member(file, place->entry, key, value);
    return ok || error_set(error, TARE_ERROR_INVALID, "line %u: the value of \"%s\" is not valid", scanner->line, key);
}

static bool scan_file(struct scanner *scanner, struct hosts_file *file, GError **error)
{
    struct place place = { file->server, false };
    for (;;) {
        skip_blanks(scanner, true);
        if (scanner->at == scanner->end)
            return true;
        bool ok = *scanner->at == '[' ? scan_table(scanner, file, &place, error) : scan_member(scanner, file, &place, error);
        if (!ok)
            return false;
        skip_blanks(scanner, false);
        if (scanner->at < scanner->end && *scanner->at != '\n')
            return wrong(scanner, "unexpected text at the end of a line", error);
    }
}

bool hosts_toml_parse(const char *text, gsize length, struct hosts_file **ret, GError **error)
{
    struct scanner scanner = { text, text + length, 1 };
    struct hosts_file *file = g_new0(struct hosts_file, 1);
    file->server = entry_new(NULL);
    file->hosts = g_ptr_array_new_with_free_func(entry_free);
    if (!scan_file(&scanner, file, error)) {
        hosts_file_free(file);
        return false;
    }
    *ret = file;
    return true;
}
