/* Finding a command by its words, over the tables of commands_*.c. */
#include "cli/cli-internal.h"

#include <string.h>

const struct cli_command *const cli_command_tables[] = { cli_container_commands, cli_image_commands,  cli_object_commands,
                                                         cli_swarm_commands,     cli_system_commands, NULL };

/* clang-format off */
const struct cli_group cli_groups[] = {
    { "builder", "Manage builds", false, NULL },
    { "buildx", "Docker Buildx", false, NULL },
    { "buildx imagetools", "Commands to work on images in registry", false, NULL },
    { "checkpoint", "Manage checkpoints", false, NULL },
    { "config", "Manage Swarm configs", true, NULL },
    { "container", "Manage containers", false, NULL },
    { "context", "Manage contexts", false, NULL },
    { "image", "Manage images", false, NULL },
    { "manifest", "Manage Docker image manifests and manifest lists", false, "The **docker manifest** command has subcommands for managing image manifests and\nmanifest lists. A manifest list allows you to use one name to refer to the same image\nbuilt for multiple architectures.\n\nTo see help for a subcommand, use:\n\n    docker manifest CMD --help\n\nFor full details on using docker manifest lists, see the registry v2 specification." },
    { "network", "Manage networks", false, NULL },
    { "node", "Manage Swarm nodes", true, NULL },
    { "plugin", "Manage plugins", false, NULL },
    { "secret", "Manage Swarm secrets", true, NULL },
    { "service", "Manage Swarm services", true, NULL },
    { "stack", "Manage Swarm stacks", true, NULL },
    { "swarm", "Manage Swarm", true, NULL },
    { "system", "Manage Docker", false, NULL },
    { "trust", "Manage trust on Docker images", false, NULL },
    { "trust key", "Manage keys for signing Docker images", false, NULL },
    { "trust signer", "Manage entities who can sign Docker images", false, NULL },
    { "volume", "Manage volumes", false, NULL },
    { 0 }
};

static const struct cli_flag root_flags[] = {
    { 0, "config", "string", "Location of client config files (default \"%s\")" },
    { 'c', "context", "string", "Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default context set with \"docker context use\")" },
    { 'D', "debug", "", "Enable debug mode" },
    { 'H', "host", "list", "Daemon socket to connect to" },
    { 'l', "log-level", "string", "Set the logging level (\"debug\", \"info\", \"warn\", \"error\", \"fatal\") (default \"info\")" },
    { 0, "tls", "", "Use TLS; implied by --tlsverify" },
    { 0, "tlscacert", "string", "Trust certs signed only by this CA (default \"%s/ca.pem\")" },
    { 0, "tlscert", "string", "Path to TLS certificate file (default \"%s/cert.pem\")" },
    { 0, "tlskey", "string", "Path to TLS key file (default \"%s/key.pem\")" },
    { 0, "tlsverify", "", "Use TLS and verify the remote" },
    { 'v', "version", "", "Print version information and quit" },
    { 0 }
};

const struct cli_command cli_root = {
    .spellings = "", .arguments = "[OPTIONS] COMMAND [ARG...]", .summary = "A self-sufficient runtime for containers",
    .max = CLI_ANY, .stop_at_argument = true, .flags = root_flags,
};
/* clang-format on */

/* The next spelling of a comma-separated list; its length, and *list after it. 0 at the end. */
static size_t next_spelling(const char **list, const char **ret)
{
    if (!**list)
        return 0;
    size_t length = strcspn(*list, ",");
    *ret = *list;
    *list += length + ((*list)[length] == ',');
    return length;
}

static bool spelling_is(const char *spelling, size_t length, const char *group, const char *word)
{
    size_t at = 0;
    if (*group) {
        at = strlen(group);
        if (length <= at || strncmp(spelling, group, at) != 0 || spelling[at] != ' ')
            return false;
        at++;
    }
    return length - at == strlen(word) && strncmp(spelling + at, word, length - at) == 0;
}

static bool spelled_so(const struct cli_command *command, const char *group, const char *word)
{
    const char *list = command->spellings, *spelling;
    for (size_t length; (length = next_spelling(&list, &spelling));)
        if (spelling_is(spelling, length, group, word))
            return true;
    return false;
}

char *cli_name_in_group(const struct cli_command *command, const char *group)
{
    const char *list = command->spellings, *spelling;
    size_t group_length = strlen(group);
    for (size_t length; (length = next_spelling(&list, &spelling));) {
        const char *last = memrchr(spelling, ' ', length);
        size_t prefix = last ? (size_t)(last - spelling) : 0;
        if (prefix == group_length && strncmp(spelling, group, prefix) == 0)
            return last ? g_strndup(last + 1, length - prefix - 1) : g_strndup(spelling, length);
    }
    return NULL;
}

static const struct cli_command *find_command(const char *group, const char *word)
{
    for (const struct cli_command *const *table = cli_command_tables; *table; table++)
        for (const struct cli_command *command = *table; command->spellings; command++)
            if (spelled_so(command, group, word))
                return command;
    return NULL;
}

static const struct cli_group *find_group(const char *parent, const char *word)
{
    for (const struct cli_group *group = cli_groups; group->name; group++)
        if (spelling_is(group->name, strlen(group->name), parent, word))
            return group;
    return NULL;
}

bool cli_find(const char *const *words, struct cli_found *ret)
{
    *ret = (struct cli_found){ 0 };
    for (;;) {
        const char *parent = ret->group ? ret->group->name : "", *word = words[ret->n_words];
        if (!word) {
            ret->path = g_strdup(parent);
            return true;
        }
        const struct cli_group *group = find_group(parent, word);
        if (group) {
            ret->group = group;
            ret->n_words++;
            continue;
        }
        ret->command = find_command(parent, word);
        if (!ret->command) {
            ret->path = g_strdup(parent);
            return false;
        }
        g_autofree char *name = cli_name_in_group(ret->command, parent);
        ret->n_words++;
        ret->path = *parent ? g_strconcat(parent, " ", name, NULL) : g_steal_pointer(&name);
        return true;
    }
}

void cli_each_flag(const struct cli_command *command, void (*visit)(const struct cli_flag *flag, void *user), void *user)
{
    static const struct cli_flag none[1];
    const struct cli_flag *a = command->flags ? command->flags : none, *b = command->more_flags ? command->more_flags : none;
    /* Both tables are sorted: merge them. */
    while (a->name || b->name) {
        int order = !a->name ? 1 : !b->name ? -1 : strcmp(a->name, b->name);
        bool take_a = order <= 0;
        if (order == 0)
            b++;
        visit(take_a ? a++ : b++, user);
    }
}

static const struct cli_flag *find_in(const struct cli_flag *flags, const char *name, char letter)
{
    for (; flags && flags->name; flags++)
        if (name ? strcmp(flags->name, name) == 0 : flags->letter == letter)
            return flags;
    return NULL;
}

const struct cli_flag *cli_find_flag(const struct cli_command *command, const char *name, char letter)
{
    const struct cli_flag *flag = find_in(command->flags, name, letter);
    return flag ? flag : find_in(command->more_flags, name, letter);
}
