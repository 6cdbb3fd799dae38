/* Flags and verbs that are known and not honoured: the one table of reasons. A flag is in the table of its command and either
 * works or stands here; a command either has a body or its first words stand here. */
#include "cli/cli-internal.h"

#include <string.h>

struct refusal {
    const char *command; /* its name (the first spelling), or NULL for every command */
    const char *flag;
    const char *reason;
    const char *allowed; /* the one value that asks for nothing, or NULL */
};

static const char windows[] = "it is for Windows engines", kubernetes[] = "Kubernetes is no orchestrator of this client",
                  orchestrator[] = "only Swarm was left of the orchestrators, and clusters are not supported",
                  cluster[] = "cluster volumes need Swarm, which is not supported",
                  kernel_memory[] = "Linux has no such limit any more",
                  trust[] = "signatures of Docker Content Trust are not supported; contents are verified by their digests";

static const char checkpoints[] = "containers cannot be checkpointed", swarm[] = "this engine runs on one machine";

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
    { "container start", "checkpoint", checkpoints },
    { "container start", "checkpoint-dir", checkpoints },
    { "container update", "kernel-memory", kernel_memory },
    { "context create", "default-stack-orchestrator", orchestrator },
    { "context create", "kubernetes", kubernetes },
    { "context update", "default-stack-orchestrator", orchestrator },
    { "context update", "kubernetes", kubernetes },
    { "stack", "orchestrator", orchestrator },
    { "version", "kubeconfig", kubernetes },
    { NULL, "disable-content-trust", trust, "true" },
    { "volume create", "availability", cluster },
    { "volume create", "group", cluster },
    { "volume create", "limit-bytes", cluster },
    { "volume create", "required-bytes", cluster },
    { "volume create", "scope", cluster },
    { "volume create", "secret", cluster },
    { "volume create", "sharing", cluster },
    { "volume create", "topology-preferred", cluster },
    { "volume create", "topology-required", cluster },
    { "volume create", "type", cluster },
    { "volume ls", "cluster", cluster },
};

/* Commands by their first words. */
static const struct {
    const char *words, *reason;
} verbs[] = {
    { "checkpoint", checkpoints },
    { "config", swarm },
    { "context export", "copy the context's directories below ~/.docker/contexts" },
    { "context import", "make it with context create" },
    { "node", swarm },
    { "plugin", "plugins would run as root beside the engine" },
    { "secret", swarm },
    { "service", swarm },
    { "stack", swarm },
    { "swarm", swarm },
    { "trust", trust },
    { "volume update", cluster },
};

const char *cli_refusal(const char *command, const char *flag, const char *value)
{
    size_t length = strcspn(command, ",");
    for (const struct refusal *refusal = refusals; refusal < refusals + G_N_ELEMENTS(refusals); refusal++) {
        const char *name = refusal->command;
        bool same = !name || (strlen(name) == length && strncmp(name, command, length) == 0);
        if (same && strcmp(refusal->flag, flag) == 0)
            return refusal->allowed && g_strcmp0(refusal->allowed, value) == 0 ? NULL : refusal->reason;
    }
    return NULL;
}

const char *cli_verb_refusal(const struct cli_command *command)
{
    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
        size_t length = strlen(verbs[i].words);
        if (strncmp(command->spellings, verbs[i].words, length) == 0 && strchr(" ,", command->spellings[length]))
            return verbs[i].reason;
    }
    return "its time has not come yet";
}
