/* Contexts, registries and the engine itself: the commands with their options. The texts are the contract with scripts and
 * people: those of docker 28.2. */
#include "cli/cli-internal.h"

/* clang-format off */
static const struct cli_flag builder_prune_flags[] = {
    { 'a', "all", "", "Remove all unused build cache, not just dangling ones" },
    { 0, "filter", "filter", "Provide filter values (e.g. \"until=24h\")" },
    { 'f', "force", "", "Do not prompt for confirmation" },
    { 0, "keep-storage", "bytes", "Amount of disk space to keep for cache" },
    { 0 }
};

static const struct cli_flag context_create_flags[] = {
    { 0, "default-stack-orchestrator", "string", "", true },
    { 0, "description", "string", "Description of the context" },
    { 0, "docker", "stringToString", "set the docker endpoint (default [])" },
    { 0, "from", "string", "create context from a named context" },
    { 0, "kubernetes", "stringToString", "", true },
    { 0 }
};

static const struct cli_flag context_export_flags[] = {
    { 0, "kubeconfig", "", "", true },
    { 0 }
};

static const struct cli_flag context_inspect_flags[] = {
    { 'f', "format", "string", "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 0 }
};

static const struct cli_flag context_ls_flags[] = {
    { 0, "format", "string", "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 'q', "quiet", "", "Only show context names" },
    { 0 }
};

static const struct cli_flag context_rm_flags[] = {
    { 'f', "force", "", "Force the removal of a context in use" },
    { 0 }
};

static const struct cli_flag context_update_flags[] = {
    { 0, "default-stack-orchestrator", "string", "", true },
    { 0, "description", "string", "Description of the context" },
    { 0, "docker", "stringToString", "set the docker endpoint (default [])" },
    { 0, "kubernetes", "stringToString", "", true },
    { 0 }
};

static const struct cli_flag inspect_flags[] = {
    { 'f', "format", "string", "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 's', "size", "", "Display total file sizes if the type is container" },
    { 0, "type", "string", "Only inspect objects of the given type" },
    { 0 }
};

static const struct cli_flag login_flags[] = {
    { 'p', "password", "string", "Password or Personal Access Token (PAT)" },
    { 0, "password-stdin", "", "Take the Password or Personal Access Token (PAT) from stdin" },
    { 'u', "username", "string", "Username" },
    { 0 }
};

static const struct cli_flag search_flags[] = {
    { 'f', "filter", "filter", "Filter output based on conditions provided" },
    { 0, "format", "string", "Pretty-print search using a Go template" },
    { 0, "limit", "int", "Max number of search results" },
    { 0, "no-trunc", "", "Don't truncate output" },
    { 0 }
};

static const struct cli_flag system_df_flags[] = {
    { 0, "format", "string", "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 0, "on-disk", "", "Show what each takes on the disk", true }, /* ours */
    { 'v', "verbose", "", "Show detailed information on space usage" },
    { 0 }
};

static const struct cli_flag system_events_flags[] = {
    { 'f', "filter", "filter", "Filter output based on conditions provided" },
    { 0, "format", "string", "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 0, "since", "string", "Show all events created since timestamp" },
    { 0, "until", "string", "Stream events until this timestamp" },
    { 0 }
};

static const struct cli_flag system_info_flags[] = {
    { 'f', "format", "string", "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 0 }
};

static const struct cli_flag system_prune_flags[] = {
    { 'a', "all", "", "Remove all unused images not just dangling ones" },
    { 0, "filter", "filter", "Provide filter values (e.g. \"label=<key>=<value>\")" },
    { 'f', "force", "", "Do not prompt for confirmation" },
    { 0, "volumes", "", "Prune anonymous volumes" },
    { 0 }
};

static const struct cli_flag version_flags[] = {
    { 'f', "format", "string", "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 0, "kubeconfig", "string", "", true },
    { 0 }
};

const struct cli_command cli_system_commands[] = {
    { .spellings = "builder prune",
      .arguments = "",
      .summary = "Remove build cache",
      .max = 0,
      .flags = builder_prune_flags,
      .run = cmd_builder_prune },
    { .spellings = "context create",
      .arguments = "[OPTIONS] CONTEXT",
      .summary = "Create a context",
      .description = "Create a context\n\nDocker endpoint config:\n\nNAME                DESCRIPTION\nfrom                Copy named context's Docker endpoint configuration\nhost                Docker endpoint on which to connect\nca                  Trust certs signed only by this CA\ncert                Path to TLS certificate file\nkey                 Path to TLS key file\nskip-tls-verify     Skip TLS certificate validation\n\nExample:\n\n$ docker context create my-context --description \"some description\" --docker \"host=tcp://myserver:2376,ca=~/ca-file,cert=~/cert-file,key=~/key-file\"",
      .min = 1,
      .max = 1,
      .flags = context_create_flags,
      .run = cmd_context_create },
    { .spellings = "context export",
      .arguments = "[OPTIONS] CONTEXT [FILE|-]",
      .summary = "Export a context to a tar archive FILE or a tar stream on STDOUT.",
      .min = 1,
      .max = 2,
      .flags = context_export_flags },
    { .spellings = "context import",
      .arguments = "CONTEXT FILE|-",
      .summary = "Import a context from a tar or zip file",
      .min = 2,
      .max = 2 },
    { .spellings = "context inspect",
      .arguments = "[OPTIONS] [CONTEXT] [CONTEXT...]",
      .summary = "Display detailed information on one or more contexts",
      .max = CLI_ANY,
      .flags = context_inspect_flags,
      .run = cmd_context_inspect },
    { .spellings = "context ls,context list",
      .arguments = "[OPTIONS]",
      .summary = "List contexts",
      .max = 0,
      .flags = context_ls_flags,
      .run = cmd_context_ls },
    { .spellings = "context rm,context remove",
      .arguments = "CONTEXT [CONTEXT...]",
      .summary = "Remove one or more contexts",
      .min = 1,
      .max = CLI_ANY,
      .flags = context_rm_flags,
      .run = cmd_context_rm },
    { .spellings = "context show",
      .arguments = "",
      .summary = "Print the name of the current context",
      .max = 0,
      .run = cmd_context_show },
    { .spellings = "context update",
      .arguments = "[OPTIONS] CONTEXT",
      .summary = "Update a context",
      .description = "Update a context\n\nDocker endpoint config:\n\nNAME                DESCRIPTION\nfrom                Copy named context's Docker endpoint configuration\nhost                Docker endpoint on which to connect\nca                  Trust certs signed only by this CA\ncert                Path to TLS certificate file\nkey                 Path to TLS key file\nskip-tls-verify     Skip TLS certificate validation\n\nExample:\n\n$ docker context update my-context --description \"some description\" --docker \"host=tcp://myserver:2376,ca=~/ca-file,cert=~/cert-file,key=~/key-file\"",
      .min = 1,
      .max = 1,
      .flags = context_update_flags,
      .run = cmd_context_update },
    { .spellings = "context use",
      .arguments = "CONTEXT",
      .summary = "Set the current docker context",
      .max = CLI_ANY,
      .run = cmd_context_use },
    { .spellings = "inspect",
      .arguments = "[OPTIONS] NAME|ID [NAME|ID...]",
      .summary = "Return low-level information on Docker objects",
      .min = 1,
      .max = CLI_ANY,
      .flags = inspect_flags,
      .run = cmd_inspect },
    { .spellings = "login",
      .arguments = "[OPTIONS] [SERVER]",
      .summary = "Authenticate to a registry",
      .description = "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
      .max = 1,
      .rank = 8,
      .flags = login_flags,
      .run = cmd_login },
    { .spellings = "logout",
      .arguments = "[SERVER]",
      .summary = "Log out from a registry",
      .description = "Log out from a registry.\nIf no server is specified, the default is defined by the daemon.",
      .max = 1,
      .rank = 9,
      .run = cmd_logout },
    { .spellings = "search",
      .arguments = "[OPTIONS] TERM",
      .summary = "Search Docker Hub for images",
      .min = 1,
      .max = 1,
      .rank = 10,
      .flags = search_flags,
      .run = cmd_search },
    { .spellings = "system df",
      .arguments = "[OPTIONS]",
      .summary = "Show docker disk usage",
      .max = 0,
      .flags = system_df_flags,
      .run = cmd_system_df },
    { .spellings = "system dial-stdio",
      .arguments = "",
      .summary = "Proxy the stdio stream to the daemon connection. Should not be invoked manually.",
      .max = 0,
      .own = true,
      .run = cmd_system_dial_stdio },
    { .spellings = "system events,events",
      .arguments = "[OPTIONS]",
      .summary = "Get real time events from the server",
      .max = 0,
      .flags = system_events_flags,
      .run = cmd_system_events },
    { .spellings = "system info,info",
      .arguments = "[OPTIONS]",
      .summary = "Display system-wide information",
      .max = 0,
      .rank = 12,
      .flags = system_info_flags,
      .run = cmd_system_info },
    { .spellings = "system prune",
      .arguments = "[OPTIONS]",
      .summary = "Remove unused data",
      .max = 0,
      .flags = system_prune_flags,
      .run = cmd_system_prune },
    { .spellings = "version",
      .arguments = "[OPTIONS]",
      .summary = "Show the Docker version information",
      .max = 0,
      .rank = 11,
      .flags = version_flags,
      .run = cmd_version },
    { 0 }
};
/* clang-format on */
