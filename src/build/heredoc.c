/* Here-documents: the words <<NAME of a line, and what RUN makes of their contents. Pure. */
#include "base/parse.h"
#include "build/build-internal.h"

#include <string.h>

void heredoc_free(struct dockerfile_heredoc *heredoc)
{
    if (!heredoc)
        return;
    g_free(heredoc->name);
    g_free(heredoc->content);
    g_free(heredoc);
}

GPtrArray *heredocs_copy(const GPtrArray *heredocs)
{
    GPtrArray *copy = g_ptr_array_new_with_free_func((GDestroyNotify)heredoc_free);

    for (guint i = 0; heredocs && i < heredocs->len; i++) {
        struct dockerfile_heredoc *heredoc = g_memdup2(heredocs->pdata[i], sizeof *heredoc);

        heredoc->name = g_strdup(heredoc->name);
        heredoc->content = g_strdup(heredoc->content);
        g_ptr_array_add(copy, heredoc);
    }
    return copy;
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* ---- words ---- */

/* One word with its quotes and escapes kept; "<<" takes the blanks after it along. NULL at the end, and for a quote without end,
 * of which *ret_good tells. */
static char *take_word(const char **at, bool *ret_good)
{
    GString *word = g_string_new(NULL);
    char quote = '\0';

    while (is_blank(**at))
        (*at)++;
    for (; **at && (quote || !is_blank(**at)); (*at)++) {
        char c = **at;

        if (c == '\\' && quote != '\'' && (*at)[1]) {
            g_string_append_c(word, c);
            (*at)++;
        } else if (quote && c == quote) {
            quote = '\0';
        } else if (!quote && (c == '\'' || c == '"')) {
            quote = c;
        } else if (!quote && c == '<' && (*at)[1] == '<') {
            g_string_append(word, "<<");
            for ((*at)++; is_blank((*at)[1]);)
                (*at)++;
            continue;
        }
        g_string_append_c(word, **at);
    }
    *ret_good = !quote;
    return g_string_free(word, quote || word->len == 0);
}

struct dockerfile_heredoc *heredoc_of_word(const char *word)
{
    g_autoptr(GHashTable) none = g_hash_table_new(g_str_hash, g_str_equal);
    struct dockerfile_heredoc *heredoc;
    g_auto(GStrv) names = NULL;
    bool is_chomped;

    while (g_ascii_isdigit(*word))
        word++;
    if (!g_str_has_prefix(word, "<<"))
        return NULL;
    word += 2;
    is_chomped = *word == '-';
    word += is_chomped;
    while (is_blank(*word))
        word++;
    /* "<<<" is a here-string, which is the shell's own business. */
    if (!*word || strchr(word, '<') || strchr(word, '$'))
        return NULL;
    names = expand_words(word, none, '\\', NULL);
    if (!names || g_strv_length(names) != 1)
        return NULL;
    heredoc = g_new0(struct dockerfile_heredoc, 1);
    heredoc->name = g_strdup(names[0]);
    heredoc->is_chomped = is_chomped;
    heredoc->is_expanded = !strpbrk(word, "'\"");
    return heredoc;
}

static bool can_have_heredoc(const char *line)
{
    static const char *const commands[] = { "add", "copy", "run", "onbuild" };

    while (is_blank(*line))
        line++;
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        size_t length = strlen(commands[i]);

        if (g_ascii_strncasecmp(line, commands[i], length) != 0 || !is_blank(line[length]))
            continue;
        return !g_str_equal(commands[i], "onbuild") || can_have_heredoc(line + length);
    }
    return false;
}

GPtrArray *heredocs_of_line(const char *line, GError **error)
{
    GPtrArray *found = g_ptr_array_new_with_free_func((GDestroyNotify)heredoc_free);
    const char *at = line;
    bool good = true;
    char *word;

    if (!strstr(line, "<<") || !can_have_heredoc(line))
        return found;
    while ((word = take_word(&at, &good))) {
        struct dockerfile_heredoc *heredoc = heredoc_of_word(word);

        g_free(word);
        if (heredoc)
            g_ptr_array_add(found, heredoc);
        if (found->len > DOCKERFILE_HEREDOCS_MAX) {
            error_set(error, TARE_ERROR_TOO_LARGE, "more than %d here-documents in one instruction", DOCKERFILE_HEREDOCS_MAX);
            g_ptr_array_unref(found);
            return NULL;
        }
    }
    if (!good) /* not a line that a shell would take: no here-documents either */
        g_ptr_array_set_size(found, 0);
    return found;
}

const struct dockerfile_heredoc *heredoc_find(const GPtrArray *heredocs, const char *word)
{
    struct dockerfile_heredoc *named = heredocs && heredocs->len > 0 ? heredoc_of_word(word) : NULL;
    const struct dockerfile_heredoc *found = NULL;

    for (guint i = 0; named && i < heredocs->len; i++) {
        const struct dockerfile_heredoc *heredoc = heredocs->pdata[i];

        if (g_str_equal(heredoc->name, named->name)) /* of two with one name the last counts */
            found = heredoc;
    }
    heredoc_free(named);
    return found;
}

/* ---- for people and for the shell ---- */

char *heredoc_summary(const struct dockerfile_heredoc *heredoc)
{
    g_autofree char *text = g_strstrip(g_strdup(heredoc->content));
    g_auto(GStrv) lines = g_strsplit(text, "\n", 2);

    if (!lines[0])
        return g_strdup("");
    g_strchomp(lines[0]);
    return lines[1] ? g_strconcat(lines[0], "...", NULL) : g_strdup(lines[0]);
}

char *heredoc_script(const char *line, const GPtrArray *heredocs)
{
    const struct dockerfile_heredoc *first = heredocs->pdata[0];
    struct dockerfile_heredoc *only = heredoc_of_word(line);
    GString *script;

    if (only) { /* nothing else on the line: the content is the script, whatever the shell knows of here-documents */
        heredoc_free(only);
        return g_strdup(first->content);
    }
    script = g_string_new(line);
    for (guint i = 0; i < heredocs->len; i++) {
        const struct dockerfile_heredoc *heredoc = heredocs->pdata[i];

        g_string_append_printf(script, "\n%s%s", heredoc->content, heredoc->name);
    }
    return g_string_free(script, FALSE);
}
