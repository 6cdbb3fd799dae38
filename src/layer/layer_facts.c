#include "layer/erofs-internal.h"

#include <string.h>

/* The sidecar is what is kept in memory, too: a head, then records whose paths share their beginning with the path before. */
#define MAGIC "tarefac1"
enum { HEAD = 12, AT_FLAGS = 8, ROOT_OPAQUE = 1, MAX_PATH = 65536, MAX_RECORDS = 1000000, MAX_PATHS_SUM = 16 << 20 };

struct layer_facts {
    GByteArray *bytes;
    GString *last; /* path of the last record, while building */
    guint n_records;
    guint64 paths_sum; /* of all whole paths: what a fix-up has to walk */
};

struct layer_facts *layer_facts_new(void)
{
    struct layer_facts *facts = g_new0(struct layer_facts, 1);
    static const guint8 no_flags[4];
    facts->bytes = g_byte_array_new();
    facts->last = g_string_new(NULL);
    g_byte_array_append(facts->bytes, (const guint8 *)MAGIC, 8);
    g_byte_array_append(facts->bytes, no_flags, 4);
    return facts;
}

void layer_facts_free(struct layer_facts *facts)
{
    if (!facts)
        return;
    g_byte_array_unref(facts->bytes);
    g_string_free(facts->last, TRUE);
    g_free(facts);
}

bool layer_facts_is_empty(const struct layer_facts *facts)
{
    return !facts || (facts->n_records == 0 && !layer_facts_root_is_opaque(facts));
}

bool layer_facts_root_is_opaque(const struct layer_facts *facts)
{
    return facts && get32(facts->bytes->data + AT_FLAGS) & ROOT_OPAQUE;
}

void layer_facts_set_root_opaque(struct layer_facts *facts)
{
    put32(facts->bytes->data + AT_FLAGS, ROOT_OPAQUE);
}

static void append32(GByteArray *bytes, guint32 value)
{
    guint8 number[4];
    put32(number, value);
    g_byte_array_append(bytes, number, 4);
}

static bool begin_record(struct layer_facts *facts, char kind, const char *path, GError **error)
{
    gsize length = strlen(path), shared = 0;
    facts->paths_sum += length;
    if (++facts->n_records > MAX_RECORDS || facts->paths_sum > MAX_PATHS_SUM || length > MAX_PATH)
        return error_set(error, TARE_ERROR_INVALID, "layer depends on too many files of other layers");
    while (shared < length && shared < facts->last->len && path[shared] == facts->last->str[shared])
        shared++;
    g_byte_array_append(facts->bytes, (const guint8 *)&kind, 1);
    append32(facts->bytes, (guint32)shared);
    append32(facts->bytes, (guint32)(length - shared));
    g_byte_array_append(facts->bytes, (const guint8 *)path + shared, (guint)(length - shared));
    g_string_assign(facts->last, path);
    return true;
}

bool layer_facts_add_implied(struct layer_facts *facts, const char *path, GError **error)
{
    return begin_record(facts, 'd', path, error);
}

bool layer_facts_add_link(struct layer_facts *facts, const char *path, const char *target, GError **error)
{
    if (!begin_record(facts, 'l', path, error))
        return false;
    append32(facts->bytes, (guint32)strlen(target));
    g_byte_array_append(facts->bytes, (const guint8 *)target, (guint)strlen(target));
    return true;
}

GBytes *layer_facts_write(const struct layer_facts *facts)
{
    return g_bytes_new(facts->bytes->data, facts->bytes->len);
}

/* A text of the record at *at, advanced; NULL where it does not fit. */
static const char *take_text(const struct layer_facts *facts, gsize *at, gsize *ret_length)
{
    const GByteArray *bytes = facts->bytes;
    if (bytes->len - *at < 4)
        return NULL;
    guint32 length = get32(bytes->data + *at);
    *at += 4;
    if (length > MAX_PATH || length > bytes->len - *at)
        return NULL;
    const char *text = (const char *)bytes->data + *at;
    *at += length;
    *ret_length = length;
    return text;
}

/* As layer_facts_next, but -1 for a malformed record. */
static int next_record(struct facts_cursor *cursor)
{
    const GByteArray *bytes = cursor->facts->bytes;
    if (!cursor->path) {
        cursor->path = g_string_new(NULL);
        cursor->target = g_string_new(NULL);
        cursor->at = HEAD;
    }
    if (cursor->at == bytes->len)
        return 0;
    if (bytes->len - cursor->at < 5)
        return -1;
    char kind = (char)bytes->data[cursor->at];
    guint32 shared = get32(bytes->data + cursor->at + 1);
    cursor->at += 5;
    gsize length;
    const char *text = take_text(cursor->facts, &cursor->at, &length);
    if (!text || shared > cursor->path->len || shared + length > MAX_PATH || (kind != 'd' && kind != 'l'))
        return -1;
    g_string_truncate(cursor->path, shared);
    g_string_append_len(cursor->path, text, (gssize)length);
    g_string_truncate(cursor->target, 0);
    if (kind == 'l') {
        text = take_text(cursor->facts, &cursor->at, &length);
        if (!text)
            return -1;
        g_string_append_len(cursor->target, text, (gssize)length);
    }
    return kind;
}

char layer_facts_next(struct facts_cursor *cursor)
{
    int kind = next_record(cursor);
    g_assert(kind >= 0); /* parsed or built by us */
    return (char)kind;
}

void facts_cursor_clear(struct facts_cursor *cursor)
{
    if (!cursor->path)
        return;
    g_string_free(cursor->path, TRUE);
    g_string_free(cursor->target, TRUE);
    cursor->path = cursor->target = NULL;
}

/* Normalised, not the root. */
static bool path_is_good(const GString *path)
{
    const char *at = path->str;
    if (strlen(at) != path->len)
        return false;
    for (;;) {
        gsize length = strcspn(at, "/");
        if (length == 0 || length > EROFS_MAX_NAME || (at[0] == '.' && (length == 1 || (length == 2 && at[1] == '.'))))
            return false;
        if (!at[length])
            return true;
        at += length + 1;
    }
}

bool layer_facts_parse(const void *data, gsize length, struct layer_facts **ret, GError **error)
{
    if (length < HEAD || length > LAYER_FACTS_MAX || memcmp(data, MAGIC, 8) != 0 ||
        get32((const guint8 *)data + AT_FLAGS) > ROOT_OPAQUE)
        return error_set(error, TARE_ERROR_INVALID, "not a layer's facts");
    g_autoptr(layer_facts) facts = layer_facts_new();
    g_byte_array_set_size(facts->bytes, 0);
    g_byte_array_append(facts->bytes, data, (guint)length);
    struct facts_cursor cursor = { .facts = facts };
    int kind;
    while ((kind = next_record(&cursor)) > 0) {
        facts->paths_sum += cursor.path->len;
        if (++facts->n_records > MAX_RECORDS || facts->paths_sum > MAX_PATHS_SUM || !path_is_good(cursor.path) ||
            (kind == 'l' && !path_is_good(cursor.target))) {
            kind = -1;
            break;
        }
    }
    facts_cursor_clear(&cursor);
    if (kind < 0)
        return error_set(error, TARE_ERROR_INVALID, "malformed facts of a layer");
    *ret = g_steal_pointer(&facts);
    return true;
}
