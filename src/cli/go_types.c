/* Go's types by their names: "[]string", "map[string]*network.EndpointSettings". What a type consists of is part of its text. */
#include "cli/go_types-internal.h"
#include "cli/template-internal.h"

#include <string.h>

/* What a named type stands for; itself where it has no such name. */
static const char *underlying(const char *type)
{
    if (!strchr(type, '.') || strchr("[*", *type) || g_str_has_prefix(type, "map["))
        return type;
    for (const struct go_name *name = go_names; name->name; name++)
        if (strcmp(name->name, type) == 0)
            return name->type;
    return type;
}

bool go_is_named(const char *type)
{
    return underlying(type) != type;
}

enum go_kind go_kind(const char *type)
{
    static const struct {
        const char *name;
        enum go_kind kind;
    } basic[] = { { "string", GO_STRING }, { "bool", GO_BOOL },  { "int", GO_INT },       { "int64", GO_INT },
                  { "int32", GO_INT },     { "uint", GO_UINT },  { "uint64", GO_UINT },   { "uint32", GO_UINT },
                  { "uint16", GO_UINT },   { "uint8", GO_UINT }, { "float64", GO_FLOAT }, { "interface {}", GO_INTERFACE } };
    if (!type)
        return GO_INVALID;
    type = underlying(type);
    if (*type == '*')
        return GO_POINTER;
    if (*type == '[')
        return type[1] == ']' ? GO_SLICE : GO_ARRAY;
    if (g_str_has_prefix(type, "map["))
        return GO_MAP;
    for (gsize i = 0; i < G_N_ELEMENTS(basic); i++)
        if (strcmp(basic[i].name, type) == 0)
            return basic[i].kind;
    return GO_STRUCT;
}

const char *go_elem(const char *type)
{
    type = underlying(type);
    return *type == '*' ? type + 1 : strchr(type, ']') + 1;
}

/* "Name=json? type" */
static struct go_field parse_field(char *text)
{
    struct go_field field = { .embedded = *text == '+', .unexported = *text == '#' };
    text += field.embedded || field.unexported;
    char *space = strchr(text, ' ');
    *space = '\0';
    field.type = space + 1;
    if (space > text && space[-1] == '?') {
        field.omit_empty = true;
        space[-1] = '\0';
    }
    char *equals = strchr(text, '=');
    field.name = field.json = text;
    if (equals) {
        *equals = '\0';
        field.json = equals + 1;
    }
    return field;
}

/* Fields are separated by ';', except within the braces of a structure without a name. */
static GArray *parse_fields(const char *text)
{
    GArray *fields = g_array_new(FALSE, FALSE, sizeof(struct go_field));
    while (*text) {
        int depth = 0;
        const char *end = text;
        for (; *end && (*end != ';' || depth); end++)
            depth += (*end == '{') - (*end == '}');
        struct go_field field = parse_field(g_strndup(text, (gsize)(end - text))); /* kept as long as the program runs */
        g_array_append_val(fields, field);
        text = *end ? end + 1 : end;
    }
    return fields;
}

const GArray *go_fields(const char *type)
{
    static GHashTable *cache; /* the command has one thread */
    if (!cache)
        cache = g_hash_table_new(g_str_hash, g_str_equal);
    const GArray *known = g_hash_table_lookup(cache, type);
    if (known)
        return known;
    const char *text = "";
    for (const struct go_struct *entry = go_structs; entry->name; entry++)
        if (strcmp(entry->name, type) == 0)
            text = entry->fields;
    GArray *fields = parse_fields(text);
    g_hash_table_insert(cache, g_strdup(type), fields);
    return fields;
}
