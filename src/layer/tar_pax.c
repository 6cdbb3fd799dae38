#include "layer/tar-internal.h"

#include "base/parse.h"

#include <string.h>

void tar_pax_clear(struct tar_pax *pax)
{
    g_free(pax->path);
    g_free(pax->link);
    g_free(pax->uname);
    g_free(pax->gname);
    g_free(pax->sparse_name);
    tar_entry_clear(&pax->xattrs);
    g_clear_pointer(&pax->extents, g_array_unref);
    memset(pax, 0, sizeof *pax);
}

void tar_pax_inherit(struct tar_pax *pax, const struct tar_pax *global)
{
    pax->uname = g_strdup(global->uname);
    pax->gname = g_strdup(global->gname);
    pax->has_uid = global->has_uid;
    pax->uid = global->uid;
    pax->has_gid = global->has_gid;
    pax->gid = global->gid;
    pax->has_mtime = global->has_mtime;
    pax->mtime = global->mtime;
    pax->mtime_ns = global->mtime_ns;
}

bool tar_time_parse(const char *text, gint64 *ret_seconds, guint32 *ret_ns)
{
    bool negative = text[0] == '-';
    const char *point = strchr(text, '.');
    g_autofree char *whole = point ? g_strndup(text, (gsize)(point - text)) : g_strdup(text);
    gint64 seconds;
    guint32 ns = 0;
    bool more = false;
    /* "-0.5" has a whole part that is no negative number. */
    if (!parse_int(whole + negative, 0, G_MAXINT64 - 1, &seconds))
        return false;
    if (point) {
        guint32 scale = 100000000;
        for (const char *c = point + 1; *c; c++, scale /= 10) {
            if (!g_ascii_isdigit(*c))
                return false;
            ns += (guint32)(*c - '0') * scale;
            more |= scale == 0 && *c != '0';
        }
    }
    if (negative) {
        /* Towards the past, so that a time never becomes later than it was. */
        ns += more;
        seconds = -seconds;
        if (ns > 0) {
            seconds--;
            ns = 1000000000 - ns;
        }
        if (ns == 1000000000) {
            seconds++;
            ns = 0;
        }
    }
    *ret_seconds = seconds;
    *ret_ns = ns;
    return true;
}

/* ---- what each keyword does; an empty value takes back an earlier one (pax(1), "pax Extended Header Keyword Precedence") ----
 */
struct pax_value {
    const char *text; /* NUL-terminated copy or the record itself */
    gsize length;
    guint64 max_path;
};

static bool set_text(char **into, const struct pax_value *value, guint64 max)
{
    if (value->length > max)
        return false;
    g_free(*into);
    *into = value->length > 0 ? g_strdup(value->text) : NULL;
    return true;
}

static bool set_number(bool *has, guint64 *into, const struct pax_value *value, guint64 max)
{
    if (value->length == 0)
        return *has = false, true;
    return *has = parse_uint(value->text, max, into);
}

static bool set_path(struct tar_pax *pax, const struct pax_value *value)
{
    return set_text(&pax->path, value, value->max_path);
}

static bool set_link(struct tar_pax *pax, const struct pax_value *value)
{
    return set_text(&pax->link, value, value->max_path);
}

static bool set_sparse_name(struct tar_pax *pax, const struct pax_value *value)
{
    return set_text(&pax->sparse_name, value, value->max_path);
}

static bool set_uname(struct tar_pax *pax, const struct pax_value *value)
{
    return set_text(&pax->uname, value, 65536);
}

static bool set_gname(struct tar_pax *pax, const struct pax_value *value)
{
    return set_text(&pax->gname, value, 65536);
}

static bool set_size(struct tar_pax *pax, const struct pax_value *value)
{
    return set_number(&pax->has_size, &pax->size, value, G_MAXINT64);
}

static bool set_uid(struct tar_pax *pax, const struct pax_value *value)
{
    return set_number(&pax->has_uid, &pax->uid, value, G_MAXUINT32);
}

static bool set_gid(struct tar_pax *pax, const struct pax_value *value)
{
    return set_number(&pax->has_gid, &pax->gid, value, G_MAXUINT32);
}

static bool set_mtime(struct tar_pax *pax, const struct pax_value *value)
{
    if (value->length == 0)
        return pax->has_mtime = false, true;
    return pax->has_mtime = tar_time_parse(value->text, &pax->mtime, &pax->mtime_ns);
}

static bool set_sparse_size(struct tar_pax *pax, const struct pax_value *value)
{
    pax->is_sparse = true;
    return set_number(&pax->has_real_size, &pax->real_size, value, G_MAXINT64);
}

static bool set_sparse_major(struct tar_pax *pax, const struct pax_value *value)
{
    pax->is_sparse = true;
    pax->is_sparse_1_0 = strcmp(value->text, "1") == 0;
    return pax->is_sparse_1_0 || strcmp(value->text, "0") == 0;
}

static bool set_sparse_mark(struct tar_pax *pax, const struct pax_value *value)
{
    pax->is_sparse = true;
    return true;
}

static bool add_sparse_extent(struct tar_pax *pax, guint64 offset, guint64 length)
{
    if (!pax->extents)
        pax->extents = g_array_new(FALSE, FALSE, sizeof(struct tar_extent));
    return tar_extents_add(pax->extents, offset, length, NULL);
}

static bool set_sparse_offset(struct tar_pax *pax, const struct pax_value *value)
{
    return !pax->has_sparse_offset && value->length > 0 &&
           set_number(&pax->has_sparse_offset, &pax->sparse_offset, value, G_MAXINT64);
}

static bool set_sparse_bytes(struct tar_pax *pax, const struct pax_value *value)
{
    guint64 length;
    if (!pax->has_sparse_offset || !parse_uint(value->text, G_MAXINT64, &length))
        return false;
    pax->has_sparse_offset = false;
    return add_sparse_extent(pax, pax->sparse_offset, length);
}

/* Version 0.1: "offset,length,offset,length…" */
static bool set_sparse_map(struct tar_pax *pax, const struct pax_value *value)
{
    pax->is_sparse = true;
    guint64 number[2] = { 0, 0 };
    unsigned which = 0, digits = 0;
    for (gsize i = 0; value->length > 0 && i <= value->length; i++) {
        char c = value->text[i];
        if (g_ascii_isdigit(c) && digits < 19) {
            number[which] = number[which] * 10 + (guint64)(c - '0');
            digits++;
            continue;
        }
        if ((c != ',' && i != value->length) || digits == 0)
            return false;
        digits = 0;
        which ^= 1;
        if (which == 0) {
            if (!add_sparse_extent(pax, number[0], number[1]))
                return false;
            number[0] = number[1] = 0;
        }
    }
    return which == 0;
}

struct pax_keyword {
    const char *name;
    bool (*set)(struct tar_pax *pax, const struct pax_value *value);
    bool global_too;
};

static const struct pax_keyword keywords[] = {
    { "path", set_path, false },
    { "linkpath", set_link, false },
    { "size", set_size, false },
    { "uid", set_uid, true },
    { "gid", set_gid, true },
    { "uname", set_uname, true },
    { "gname", set_gname, true },
    { "mtime", set_mtime, true },
    { "GNU.sparse.major", set_sparse_major, false },
    { "GNU.sparse.minor", set_sparse_mark, false },
    { "GNU.sparse.name", set_sparse_name, false },
    { "GNU.sparse.realsize", set_sparse_size, false },
    { "GNU.sparse.size", set_sparse_size, false },
    { "GNU.sparse.numblocks", set_sparse_mark, false },
    { "GNU.sparse.offset", set_sparse_offset, false },
    { "GNU.sparse.numbytes", set_sparse_bytes, false },
    { "GNU.sparse.map", set_sparse_map, false },
};

/* GNU tar writes "=" as %3D and "%" as %25 in the names of attributes. */
static char *decode_xattr_name(const char *text)
{
    GString *name = g_string_new(NULL);
    for (const char *c = text; *c; c++) {
        if (strncmp(c, "%3D", 3) == 0 || strncmp(c, "%25", 3) == 0) {
            g_string_append_c(name, c[1] == '3' ? '=' : '%');
            c += 2;
        } else {
            g_string_append_c(name, *c);
        }
    }
    return g_string_free(name, FALSE);
}

static bool add_xattr(struct tar_pax *pax, const char *encoded, const struct pax_value *value)
{
    g_autofree char *name = decode_xattr_name(encoded);
    size_t length = strlen(name);
    if (length == 0 || length > 255 || (pax->xattrs.xattrs && pax->xattrs.xattrs->len >= TAR_MAX_XATTRS))
        return false;
    tar_entry_set_xattr(&pax->xattrs, name, value->text, value->length);
    return true;
}

static bool take_record(struct tar_pax *pax, const char *key, const struct pax_value *value, bool global)
{
    if (g_str_has_prefix(key, TAR_XATTR_PREFIX))
        return global || add_xattr(pax, key + strlen(TAR_XATTR_PREFIX), value);
    for (size_t i = 0; i < G_N_ELEMENTS(keywords); i++)
        if (strcmp(key, keywords[i].name) == 0)
            return (global && !keywords[i].global_too) || (strlen(value->text) == value->length && keywords[i].set(pax, value));
    return true;
}

/* "25 path=some/where/or/other\n": the number counts the whole record. */
static const char *parse_record(const char *at, gsize left, char **ret_key, char **ret_value, gsize *ret_value_length)
{
    gsize digits = 0, length = 0;
    while (digits < left && digits < 8 && g_ascii_isdigit(at[digits]))
        length = length * 10 + (gsize)(at[digits++] - '0');
    if (digits == 0 || digits >= left || at[digits] != ' ' || length > left || length < digits + 3 || at[length - 1] != '\n')
        return NULL;
    const char *key = at + digits + 1, *end = at + length - 1;
    const char *equals = memchr(key, '=', (gsize)(end - key));
    if (!equals || equals == key || memchr(key, '\0', (gsize)(equals - key)))
        return NULL;
    *ret_key = g_strndup(key, (gsize)(equals - key));
    *ret_value_length = (gsize)(end - equals - 1);
    *ret_value = g_malloc(*ret_value_length + 1);
    memcpy(*ret_value, equals + 1, *ret_value_length);
    (*ret_value)[*ret_value_length] = '\0';
    return at + length;
}

bool tar_pax_parse(struct tar_pax *pax, const char *records, gsize length, bool global, guint64 max_path, GError **error)
{
    const char *end = records + length;
    for (const char *at = records; at < end;) {
        g_autofree char *key = NULL, *text = NULL;
        struct pax_value value = { .max_path = max_path };
        /* Some writers fill the last block of the header, and count the zeros in its size. */
        if (*at == '\0')
            break;
        at = parse_record(at, (gsize)(end - at), &key, &text, &value.length);
        if (!at)
            return error_set(error, TARE_ERROR_INVALID, "malformed pax record");
        value.text = text;
        if (!take_record(pax, key, &value, global))
            return error_set(error, TARE_ERROR_INVALID, "bad value of pax record \"%s\"", key);
    }
    if (pax->has_sparse_offset)
        return error_set(error, TARE_ERROR_INVALID, "bad sparse map");
    return true;
}
