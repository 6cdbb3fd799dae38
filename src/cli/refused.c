/* Flags that are known and not honoured: the one table of reasons. A flag is in the table of its command and either works or
 * stands here. */
#include "cli/cli-internal.h"

#include <string.h>

struct refusal {
    const char *command; /* its name (the first spelling), or NULL for every command */
    const char *flag;
    const char *reason;
};

static const char windows[] = "it is for Windows engines";

static const struct refusal refusals[] = {
    { "container run", "cpu-count", windows },
    { "container run", "cpu-percent", windows },
    { "container run", "io-maxbandwidth", windows },
    { "container run", "io-maxiops", windows },
    { "container create", "cpu-count", windows },
    { "container create", "cpu-percent", windows },
    { "container create", "io-maxbandwidth", windows },
    { "container create", "io-maxiops", windows },
    { "container run", "use-api-socket", "mount the socket with --volume, so that what the container may do is said openly" },
    { "container create", "use-api-socket", "mount the socket with --volume, so that what the container may do is said openly" },
    { "container start", "checkpoint", "containers cannot be checkpointed" },
    { "container start", "checkpoint-dir", "containers cannot be checkpointed" },
    { "image ls", "tree", "it needs an image store that keeps platforms apart" },
};

const char *cli_refusal(const struct cli_command *command, const char *flag)
{
    g_autofree char *name = g_strndup(command->spellings, strcspn(command->spellings, ","));
    for (size_t i = 0; i < G_N_ELEMENTS(refusals); i++)
        if (strcmp(refusals[i].flag, flag) == 0 && (!refusals[i].command || strcmp(refusals[i].command, name) == 0))
            return refusals[i].reason;
    return NULL;
}
