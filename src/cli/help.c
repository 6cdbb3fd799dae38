/* --help, completions and manual pages, generated from the table of commands, laid out as docker lays them out. */
#include "cli/cli-internal.h"

#include <string.h>

#define ONLY_IN_TARE "Only in tare"
#define NAME_PADDING 11
#define WRAP_SLOP 5 /* a last line may be so much longer, rather than leave a lone word */
#define WRAP_MINIMUM 24

static char *spaces(size_t n)
{
    return g_strnfill(n, ' ');
}

/* Splits text at the last blank that lets the line fit width, or at an earlier line feed. *rest is NULL when all of it fits. */
static char *wrap_line(size_t width, const char *text, const char **rest)
{
    size_t length = strlen(text);
    *rest = NULL;
    if (width + WRAP_SLOP > length)
        return g_strdup(text);
    size_t blank = 0, feed = 0;
    for (size_t i = 0; i < width; i++) {
        if (strchr(" \t\n", text[i]))
            blank = i;
        if (text[i] == '\n')
            feed = i;
    }
    if (blank == 0)
        return g_strdup(text);
    size_t cut = feed > 0 && feed < blank ? feed : blank;
    *rest = text + cut + 1;
    return g_strndup(text, cut);
}

static void append_wrapped(GString *out, size_t indent, int width, const char *text)
{
    g_autofree char *margin = NULL;
    if (width > 0 && (size_t)width < indent + WRAP_MINIMUM) {
        indent = 16;
        g_string_append_printf(out, "\n%*s", (int)indent, "");
    }
    margin = spaces(indent);
    bool wrap = width > 0 && (size_t)width >= indent + WRAP_MINIMUM;
    for (const char *rest = text; rest; text = rest) {
        g_autofree char *line = wrap ? wrap_line((size_t)width - indent - WRAP_SLOP, text, &rest) : g_strdup(text);
        if (!wrap)
            rest = NULL;
        g_auto(GStrv) pieces = g_strsplit(line, "\n", -1);
        for (char **piece = pieces; *piece; piece++)
            g_string_append_printf(out, "%s%s", *piece, piece[1] ? "\n" : ""), piece[1] ? g_string_append(out, margin) : NULL;
        if (rest)
            g_string_append_printf(out, "\n%s", *rest ? margin : "");
        if (rest && !*rest)
            break;
    }
}

struct flag_lines {
    GPtrArray *left, *usage;
    size_t widest;
    const char *config_directory;
    bool own;
};

static char *with_directory(const char *usage, const char *directory)
{
    const char *mark = strstr(usage, "%s");
    if (!mark)
        return g_strdup(usage);
    g_autofree char *head = g_strndup(usage, (size_t)(mark - usage));
    return g_strconcat(head, directory ? directory : "", mark + 2, NULL);
}

static void collect_flag(const struct cli_flag *flag, void *user)
{
    struct flag_lines *lines = user;
    if (flag->own != lines->own)
        return;
    char *left =
        flag->letter ? g_strdup_printf("  -%c, --%s", flag->letter, flag->name) : g_strdup_printf("      --%s", flag->name);
    if (*flag->value) {
        char *with_value = g_strdup_printf("%s %s", left, flag->value);
        g_free(left);
        left = with_value;
    }
    lines->widest = MAX(lines->widest, strlen(left));
    g_ptr_array_add(lines->left, left);
    g_ptr_array_add(lines->usage, with_directory(flag->usage, lines->config_directory));
}

static char *flags_text(const struct cli_command *command, int width, const char *config_directory, bool own)
{
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free), usage = g_ptr_array_new_with_free_func(g_free);
    struct flag_lines lines = { left, usage, 0, config_directory, own };
    cli_each_flag(command, collect_flag, &lines);
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < left->len; i++) {
        g_string_append_printf(out, "%-*s   ", (int)lines.widest, (const char *)left->pdata[i]);
        append_wrapped(out, lines.widest + 3, width, usage->pdata[i]);
        while (out->len && out->str[out->len - 1] == ' ')
            g_string_truncate(out, out->len - 1);
        g_string_append_c(out, '\n');
    }
    return g_string_free(out, FALSE);
}

char *help_flags(const struct cli_command *command, int width, const char *config_directory)
{
    return flags_text(command, width, config_directory, false);
}

char *help_usage_line(const char *program, const char *path, const struct cli_command *command)
{
    g_auto(GStrv) parts = g_strsplit(command->arguments, "\tdocker ", -1); /* cp has a second line, which names the program */
    g_autofree char *second = g_strdup_printf("\t%s ", program), *arguments = g_strjoinv(second, parts);
    return g_strdup_printf("%s%s%s%s%s", program, *path ? " " : "", path, *arguments ? " " : "", arguments);
}

static char *aliases(const char *program, const struct cli_command *command)
{
    g_auto(GStrv) spellings = g_strsplit(command->spellings, ",", -1);
    if (!spellings[0] || !spellings[1])
        return NULL;
    GString *out = g_string_new(NULL);
    for (char **spelling = spellings; *spelling; spelling++)
        g_string_append_printf(out, "%s%s %s", out->len ? ", " : "", program, *spelling);
    return g_string_free(out, FALSE);
}

/* Called as docker, the pages are docker's. */
static bool shows_own(const char *program)
{
    return strcmp(program, "docker") != 0;
}

char *help_command(const char *program, const char *path, const struct cli_command *command, int width)
{
    g_autofree char *usage = help_usage_line(program, path, command);
    g_autofree char *flags = help_flags(command, width, NULL), *own_flags = flags_text(command, width, NULL, true);
    g_autofree char *others = aliases(program, command);
    GString *out = g_string_new(NULL);
    g_string_append_printf(out, "Usage:  %s\n\n%s\n", usage, command->description ? command->description : command->summary);
    if (others)
        g_string_append_printf(out, "\nAliases:\n  %s\n", others);
    if (*flags)
        g_string_append_printf(out, "\nOptions:\n%s", flags);
    if (*own_flags && shows_own(program))
        g_string_append_printf(out, "\n" ONLY_IN_TARE ":\n%s", own_flags);
    return g_string_free(out, FALSE);
}

struct entry {
    char *name;
    const char *summary;
    int rank;
};

static void entry_clear(gpointer data)
{
    g_free(((struct entry *)data)->name);
}

static gint by_rank_and_name(gconstpointer a, gconstpointer b)
{
    const struct entry *x = a, *y = b;
    return x->rank != y->rank ? x->rank - y->rank : strcmp(x->name, y->name);
}

static void append_section(GString *out, const char *title, GArray *entries)
{
    if (entries->len == 0)
        return;
    g_array_sort(entries, by_rank_and_name);
    g_string_append_printf(out, "\n%s:\n", title);
    for (guint i = 0; i < entries->len; i++) {
        const struct entry *entry = &g_array_index(entries, struct entry, i);
        g_string_append_printf(out, "  %-*s %s\n", NAME_PADDING, entry->name, entry->summary);
    }
}

static GArray *entries_new(void)
{
    GArray *entries = g_array_new(FALSE, FALSE, sizeof(struct entry));
    g_array_set_clear_func(entries, entry_clear);
    return entries;
}

/* The commands of a group ("": the top level): docker's, common ones apart where common is not NULL, or our own. */
static void collect_commands(const char *group, bool own, GArray *commands, GArray *common)
{
    for (const struct cli_command *const *table = cli_command_tables; *table; table++)
        for (const struct cli_command *command = *table; command->spellings; command++) {
            char *name = command->own != own ? NULL : cli_name_in_group(command, group);
            if (!name)
                continue;
            struct entry entry = { name, command->summary, common ? command->rank : 0 };
            g_array_append_val(*(common && command->rank ? &common : &commands), entry);
        }
}

static void collect_groups(const char *parent, bool swarm, GArray *groups)
{
    size_t length = strlen(parent);
    for (const struct cli_group *group = cli_groups; group->name; group++) {
        const char *name = group->name;
        if (length > 0) {
            if (strncmp(name, parent, length) != 0 || name[length] != ' ')
                continue;
            name += length + 1;
        }
        if (strchr(name, ' ') || group->swarm != swarm)
            continue;
        struct entry entry = { g_strdup(name), group->summary, 0 };
        g_array_append_val(groups, entry);
    }
}

char *help_group(const char *program, const struct cli_group *group)
{
    g_autoptr(GArray) commands = entries_new(), groups = entries_new(), own = entries_new();
    collect_commands(group->name, false, commands, NULL);
    if (shows_own(program))
        collect_commands(group->name, true, own, NULL);
    if (!group->swarm)
        collect_groups(group->name, false, groups);
    GString *out = g_string_new(NULL);
    g_string_append_printf(out, "Usage:  %s %s COMMAND\n\n%s\n", program, group->name,
                           group->description ? group->description : group->summary);
    append_section(out, "Management Commands", groups);
    append_section(out, "Commands", commands);
    append_section(out, ONLY_IN_TARE, own);
    g_string_append_printf(out, "\nRun '%s %s COMMAND --help' for more information on a command.\n", program, group->name);
    return g_string_free(out, FALSE);
}

char *help_root(const char *program, int width, const char *config_directory)
{
    g_autoptr(GArray) commands = entries_new(), common = entries_new(), groups = entries_new(), swarm = entries_new();
    collect_commands("", false, commands, common);
    collect_groups("", false, groups);
    collect_groups("", true, swarm);
    g_autofree char *flags = help_flags(&cli_root, width, config_directory);
    GString *out = g_string_new(NULL);
    g_string_append_printf(out, "Usage:  %s [OPTIONS] COMMAND\n\n%s\n", program, cli_root.summary);
    append_section(out, "Common Commands", common);
    append_section(out, "Management Commands", groups);
    append_section(out, "Swarm Commands", swarm);
    append_section(out, "Commands", commands);
    g_string_append_printf(out, "\nGlobal Options:\n%s\nRun '%s COMMAND --help' for more information on a command.\n", flags,
                           program);
    g_string_append(out, "\nFor more help on how to use Docker, head to https://docs.docker.com/go/guides/\n");
    return g_string_free(out, FALSE);
}
