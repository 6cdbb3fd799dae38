/* Clusters: known, so that --help and errors are right, and refused: the commands with their options. The texts are the contract
 * with scripts and people: those of docker 28.2. */
#include "cli/cli-internal.h"

/* clang-format off */
static const struct cli_flag config_create_flags[] = {
    { 'l', "label", "list", "Config labels" },
    { 0, "template-driver", "string", "Template driver" },
    { 0 }
};

static const struct cli_flag config_inspect_flags[] = {
    { 'f', "format", "string", "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 0, "pretty", "", "Print the information in a human friendly format" },
    { 0 }
};

static const struct cli_flag config_ls_flags[] = {
    { 'f', "filter", "filter", "Filter output based on conditions provided" },
    { 0, "format", "string", "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 'q', "quiet", "", "Only display IDs" },
    { 0 }
};

static const struct cli_flag node_inspect_flags[] = {
    { 'f', "format", "string", "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 0, "pretty", "", "Print the information in a human friendly format" },
    { 0 }
};

static const struct cli_flag node_ls_flags[] = {
    { 'f', "filter", "filter", "Filter output based on conditions provided" },
    { 0, "format", "string", "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 'q', "quiet", "", "Only display IDs" },
    { 0 }
};

static const struct cli_flag node_ps_flags[] = {
    { 'f', "filter", "filter", "Filter output based on conditions provided" },
    { 0, "format", "string", "Pretty-print tasks using a Go template" },
    { 0, "no-resolve", "", "Do not map IDs to Names" },
    { 0, "no-trunc", "", "Do not truncate output" },
    { 'q', "quiet", "", "Only display task IDs" },
    { 0 }
};

static const struct cli_flag node_rm_flags[] = {
    { 'f', "force", "", "Force remove a node from the swarm" },
    { 0 }
};

static const struct cli_flag node_update_flags[] = {
    { 0, "availability", "string", "Availability of the node (\"active\", \"pause\", \"drain\")" },
    { 0, "label-add", "list", "Add or update a node label (\"key=value\")" },
    { 0, "label-rm", "list", "Remove a node label if exists" },
    { 0, "role", "string", "Role of the node (\"worker\", \"manager\")" },
    { 0 }
};

static const struct cli_flag secret_create_flags[] = {
    { 'd', "driver", "string", "Secret driver" },
    { 'l', "label", "list", "Secret labels" },
    { 0, "template-driver", "string", "Template driver" },
    { 0 }
};

static const struct cli_flag secret_inspect_flags[] = {
    { 'f', "format", "string", "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 0, "pretty", "", "Print the information in a human friendly format" },
    { 0 }
};

static const struct cli_flag secret_ls_flags[] = {
    { 'f', "filter", "filter", "Filter output based on conditions provided" },
    { 0, "format", "string", "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 'q', "quiet", "", "Only display IDs" },
    { 0 }
};

static const struct cli_flag service_create_flags[] = {
    { 0, "cap-add", "list", "Add Linux capabilities" },
    { 0, "cap-drop", "list", "Drop Linux capabilities" },
    { 0, "config", "config", "Specify configurations to expose to the service" },
    { 0, "constraint", "list", "Placement constraints" },
    { 0, "container-label", "list", "Container labels" },
    { 0, "credential-spec", "credential-spec", "Credential spec for managed service account (Windows only)" },
    { 'd', "detach", "", "Exit immediately instead of waiting for the service to converge" },
    { 0, "dns", "list", "Set custom DNS servers" },
    { 0, "dns-option", "list", "Set DNS options" },
    { 0, "dns-search", "list", "Set custom DNS search domains" },
    { 0, "endpoint-mode", "string", "Endpoint mode (vip or dnsrr) (default \"vip\")" },
    { 0, "entrypoint", "command", "Overwrite the default ENTRYPOINT of the image" },
    { 'e', "env", "list", "Set environment variables" },
    { 0, "env-file", "list", "Read in a file of environment variables" },
    { 0, "generic-resource", "list", "User defined resources" },
    { 0, "group", "list", "Set one or more supplementary user groups for the container" },
    { 0, "health-cmd", "string", "Command to run to check health" },
    { 0, "health-interval", "duration", "Time between running the check (ms|s|m|h)" },
    { 0, "health-retries", "int", "Consecutive failures needed to report unhealthy" },
    { 0, "health-start-interval", "duration", "Time between running the check during the start period (ms|s|m|h)" },
    { 0, "health-start-period", "duration", "Start period for the container to initialize before counting retries towards unstable (ms|s|m|h)" },
    { 0, "health-timeout", "duration", "Maximum time to allow one check to run (ms|s|m|h)" },
    { 0, "host", "list", "Set one or more custom host-to-IP mappings (host:ip)" },
    { 0, "hostname", "string", "Container hostname" },
    { 0, "init", "", "Use an init inside each service container to forward signals and reap processes" },
    { 0, "isolation", "string", "Service container isolation mode" },
    { 'l', "label", "list", "Service labels" },
    { 0, "limit-cpu", "decimal", "Limit CPUs" },
    { 0, "limit-memory", "bytes", "Limit Memory" },
    { 0, "limit-pids", "int", "Limit maximum number of processes (default 0 = unlimited)" },
    { 0, "log-driver", "string", "Logging driver for service" },
    { 0, "log-opt", "list", "Logging driver options" },
    { 0, "max-concurrent", "uint", "Number of job tasks to run concurrently (default equal to --replicas)" },
    { 0, "mode", "string", "Service mode (\"replicated\", \"global\", \"replicated-job\", \"global-job\") (default \"replicated\")" },
    { 0, "mount", "mount", "Attach a filesystem mount to the service" },
    { 0, "name", "string", "Service name" },
    { 0, "network", "network", "Network attachments" },
    { 0, "no-healthcheck", "", "Disable any container-specified HEALTHCHECK" },
    { 0, "no-resolve-image", "", "Do not query the registry to resolve image digest and supported platforms" },
    { 0, "oom-score-adj", "int", "Tune host's OOM preferences (-1000 to 1000) " },
    { 0, "placement-pref", "pref", "Add a placement preference" },
    { 'p', "publish", "port", "Publish a port as a node port" },
    { 'q', "quiet", "", "Suppress progress output" },
    { 0, "read-only", "", "Mount the container's root filesystem as read only" },
    { 0, "replicas", "uint", "Number of tasks" },
    { 0, "replicas-max-per-node", "uint", "Maximum number of tasks per node (default 0 = unlimited)" },
    { 0, "reserve-cpu", "decimal", "Reserve CPUs" },
    { 0, "reserve-memory", "bytes", "Reserve Memory" },
    { 0, "restart-condition", "string", "Restart when condition is met (\"none\", \"on-failure\", \"any\") (default \"any\")" },
    { 0, "restart-delay", "duration", "Delay between restart attempts (ns|us|ms|s|m|h) (default 5s)" },
    { 0, "restart-max-attempts", "uint", "Maximum number of restarts before giving up" },
    { 0, "restart-window", "duration", "Window used to evaluate the restart policy (ns|us|ms|s|m|h)" },
    { 0, "rollback-delay", "duration", "Delay between task rollbacks (ns|us|ms|s|m|h) (default 0s)" },
    { 0, "rollback-failure-action", "string", "Action on rollback failure (\"pause\", \"continue\") (default \"pause\")" },
    { 0, "rollback-max-failure-ratio", "float", "Failure rate to tolerate during a rollback (default 0)" },
    { 0, "rollback-monitor", "duration", "Duration after each task rollback to monitor for failure (ns|us|ms|s|m|h) (default 5s)" },
    { 0, "rollback-order", "string", "Rollback order (\"start-first\", \"stop-first\") (default \"stop-first\")" },
    { 0, "rollback-parallelism", "uint", "Maximum number of tasks rolled back simultaneously (0 to roll back all at once) (default 1)" },
    { 0, "secret", "secret", "Specify secrets to expose to the service" },
    { 0, "stop-grace-period", "duration", "Time to wait before force killing a container (ns|us|ms|s|m|h) (default 10s)" },
    { 0, "stop-signal", "string", "Signal to stop the container" },
    { 0, "sysctl", "list", "Sysctl options" },
    { 't', "tty", "", "Allocate a pseudo-TTY" },
    { 0, "ulimit", "ulimit", "Ulimit options (default [])" },
    { 0, "update-delay", "duration", "Delay between updates (ns|us|ms|s|m|h) (default 0s)" },
    { 0, "update-failure-action", "string", "Action on update failure (\"pause\", \"continue\", \"rollback\") (default \"pause\")" },
    { 0, "update-max-failure-ratio", "float", "Failure rate to tolerate during an update (default 0)" },
    { 0, "update-monitor", "duration", "Duration after each task update to monitor for failure (ns|us|ms|s|m|h) (default 5s)" },
    { 0, "update-order", "string", "Update order (\"start-first\", \"stop-first\") (default \"stop-first\")" },
    { 0, "update-parallelism", "uint", "Maximum number of tasks updated simultaneously (0 to update all at once) (default 1)" },
    { 'u', "user", "string", "Username or UID (format: <name|uid>[:<group|gid>])" },
    { 0, "with-registry-auth", "", "Send registry authentication details to swarm agents" },
    { 'w', "workdir", "string", "Working directory inside the container" },
    { 0 }
};

static const struct cli_flag service_inspect_flags[] = {
    { 'f', "format", "string", "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 0, "pretty", "", "Print the information in a human friendly format" },
    { 0 }
};

static const struct cli_flag service_logs_flags[] = {
    { 0, "details", "", "Show extra details provided to logs" },
    { 'f', "follow", "", "Follow log output" },
    { 0, "no-resolve", "", "Do not map IDs to Names in output" },
    { 0, "no-task-ids", "", "Do not include task IDs in output" },
    { 0, "no-trunc", "", "Do not truncate output" },
    { 0, "raw", "", "Do not neatly format logs" },
    { 0, "since", "string", "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)" },
    { 'n', "tail", "string", "Number of lines to show from the end of the logs (default \"all\")" },
    { 't', "timestamps", "", "Show timestamps" },
    { 0 }
};

static const struct cli_flag service_ls_flags[] = {
    { 'f', "filter", "filter", "Filter output based on conditions provided" },
    { 0, "format", "string", "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 'q', "quiet", "", "Only display IDs" },
    { 0 }
};

static const struct cli_flag service_ps_flags[] = {
    { 'f', "filter", "filter", "Filter output based on conditions provided" },
    { 0, "format", "string", "Pretty-print tasks using a Go template" },
    { 0, "no-resolve", "", "Do not map IDs to Names" },
    { 0, "no-trunc", "", "Do not truncate output" },
    { 'q', "quiet", "", "Only display task IDs" },
    { 0 }
};

static const struct cli_flag service_rollback_flags[] = {
    { 'd', "detach", "", "Exit immediately instead of waiting for the service to converge" },
    { 'q', "quiet", "", "Suppress progress output" },
    { 0 }
};

static const struct cli_flag service_scale_flags[] = {
    { 'd', "detach", "", "Exit immediately instead of waiting for the service to converge" },
    { 0 }
};

static const struct cli_flag service_update_flags[] = {
    { 0, "args", "command", "Service command args" },
    { 0, "cap-add", "list", "Add Linux capabilities" },
    { 0, "cap-drop", "list", "Drop Linux capabilities" },
    { 0, "config-add", "config", "Add or update a config file on a service" },
    { 0, "config-rm", "list", "Remove a configuration file" },
    { 0, "constraint-add", "list", "Add or update a placement constraint" },
    { 0, "constraint-rm", "list", "Remove a constraint" },
    { 0, "container-label-add", "list", "Add or update a container label" },
    { 0, "container-label-rm", "list", "Remove a container label by its key" },
    { 0, "credential-spec", "credential-spec", "Credential spec for managed service account (Windows only)" },
    { 'd', "detach", "", "Exit immediately instead of waiting for the service to converge" },
    { 0, "dns-add", "list", "Add or update a custom DNS server" },
    { 0, "dns-option-add", "list", "Add or update a DNS option" },
    { 0, "dns-option-rm", "list", "Remove a DNS option" },
    { 0, "dns-rm", "list", "Remove a custom DNS server" },
    { 0, "dns-search-add", "list", "Add or update a custom DNS search domain" },
    { 0, "dns-search-rm", "list", "Remove a DNS search domain" },
    { 0, "endpoint-mode", "string", "Endpoint mode (vip or dnsrr)" },
    { 0, "entrypoint", "command", "Overwrite the default ENTRYPOINT of the image" },
    { 0, "env-add", "list", "Add or update an environment variable" },
    { 0, "env-rm", "list", "Remove an environment variable" },
    { 0, "force", "", "Force update even if no changes require it" },
    { 0, "generic-resource-add", "list", "Add a Generic resource" },
    { 0, "generic-resource-rm", "list", "Remove a Generic resource" },
    { 0, "group-add", "list", "Add an additional supplementary user group to the container" },
    { 0, "group-rm", "list", "Remove a previously added supplementary user group from the container" },
    { 0, "health-cmd", "string", "Command to run to check health" },
    { 0, "health-interval", "duration", "Time between running the check (ms|s|m|h)" },
    { 0, "health-retries", "int", "Consecutive failures needed to report unhealthy" },
    { 0, "health-start-interval", "duration", "Time between running the check during the start period (ms|s|m|h)" },
    { 0, "health-start-period", "duration", "Start period for the container to initialize before counting retries towards unstable (ms|s|m|h)" },
    { 0, "health-timeout", "duration", "Maximum time to allow one check to run (ms|s|m|h)" },
    { 0, "host-add", "list", "Add a custom host-to-IP mapping (\"host:ip\")" },
    { 0, "host-rm", "list", "Remove a custom host-to-IP mapping (\"host:ip\")" },
    { 0, "hostname", "string", "Container hostname" },
    { 0, "image", "string", "Service image tag" },
    { 0, "init", "", "Use an init inside each service container to forward signals and reap processes" },
    { 0, "isolation", "string", "Service container isolation mode" },
    { 0, "label-add", "list", "Add or update a service label" },
    { 0, "label-rm", "list", "Remove a label by its key" },
    { 0, "limit-cpu", "decimal", "Limit CPUs" },
    { 0, "limit-memory", "bytes", "Limit Memory" },
    { 0, "limit-pids", "int", "Limit maximum number of processes (default 0 = unlimited)" },
    { 0, "log-driver", "string", "Logging driver for service" },
    { 0, "log-opt", "list", "Logging driver options" },
    { 0, "max-concurrent", "uint", "Number of job tasks to run concurrently (default equal to --replicas)" },
    { 0, "mount-add", "mount", "Add or update a mount on a service" },
    { 0, "mount-rm", "list", "Remove a mount by its target path" },
    { 0, "network-add", "network", "Add a network" },
    { 0, "network-rm", "list", "Remove a network" },
    { 0, "no-healthcheck", "", "Disable any container-specified HEALTHCHECK" },
    { 0, "no-resolve-image", "", "Do not query the registry to resolve image digest and supported platforms" },
    { 0, "oom-score-adj", "int", "Tune host's OOM preferences (-1000 to 1000) " },
    { 0, "placement-pref-add", "pref", "Add a placement preference" },
    { 0, "placement-pref-rm", "pref", "Remove a placement preference" },
    { 0, "publish-add", "port", "Add or update a published port" },
    { 0, "publish-rm", "port", "Remove a published port by its target port" },
    { 'q', "quiet", "", "Suppress progress output" },
    { 0, "read-only", "", "Mount the container's root filesystem as read only" },
    { 0, "replicas", "uint", "Number of tasks" },
    { 0, "replicas-max-per-node", "uint", "Maximum number of tasks per node (default 0 = unlimited)" },
    { 0, "reserve-cpu", "decimal", "Reserve CPUs" },
    { 0, "reserve-memory", "bytes", "Reserve Memory" },
    { 0, "restart-condition", "string", "Restart when condition is met (\"none\", \"on-failure\", \"any\")" },
    { 0, "restart-delay", "duration", "Delay between restart attempts (ns|us|ms|s|m|h)" },
    { 0, "restart-max-attempts", "uint", "Maximum number of restarts before giving up" },
    { 0, "restart-window", "duration", "Window used to evaluate the restart policy (ns|us|ms|s|m|h)" },
    { 0, "rollback", "", "Rollback to previous specification" },
    { 0, "rollback-delay", "duration", "Delay between task rollbacks (ns|us|ms|s|m|h)" },
    { 0, "rollback-failure-action", "string", "Action on rollback failure (\"pause\", \"continue\")" },
    { 0, "rollback-max-failure-ratio", "float", "Failure rate to tolerate during a rollback" },
    { 0, "rollback-monitor", "duration", "Duration after each task rollback to monitor for failure (ns|us|ms|s|m|h)" },
    { 0, "rollback-order", "string", "Rollback order (\"start-first\", \"stop-first\")" },
    { 0, "rollback-parallelism", "uint", "Maximum number of tasks rolled back simultaneously (0 to roll back all at once)" },
    { 0, "secret-add", "secret", "Add or update a secret on a service" },
    { 0, "secret-rm", "list", "Remove a secret" },
    { 0, "stop-grace-period", "duration", "Time to wait before force killing a container (ns|us|ms|s|m|h)" },
    { 0, "stop-signal", "string", "Signal to stop the container" },
    { 0, "sysctl-add", "list", "Add or update a Sysctl option" },
    { 0, "sysctl-rm", "list", "Remove a Sysctl option" },
    { 't', "tty", "", "Allocate a pseudo-TTY" },
    { 0, "ulimit-add", "ulimit", "Add or update a ulimit option (default [])" },
    { 0, "ulimit-rm", "list", "Remove a ulimit option" },
    { 0, "update-delay", "duration", "Delay between updates (ns|us|ms|s|m|h)" },
    { 0, "update-failure-action", "string", "Action on update failure (\"pause\", \"continue\", \"rollback\")" },
    { 0, "update-max-failure-ratio", "float", "Failure rate to tolerate during an update" },
    { 0, "update-monitor", "duration", "Duration after each task update to monitor for failure (ns|us|ms|s|m|h)" },
    { 0, "update-order", "string", "Update order (\"start-first\", \"stop-first\")" },
    { 0, "update-parallelism", "uint", "Maximum number of tasks updated simultaneously (0 to update all at once)" },
    { 'u', "user", "string", "Username or UID (format: <name|uid>[:<group|gid>])" },
    { 0, "with-registry-auth", "", "Send registry authentication details to swarm agents" },
    { 'w', "workdir", "string", "Working directory inside the container" },
    { 0 }
};

static const struct cli_flag stack_config_flags[] = {
    { 'c', "compose-file", "strings", "Path to a Compose file, or \"-\" to read from stdin" },
    { 0, "skip-interpolation", "", "Skip interpolation and output only merged config" },
    { 0 }
};

static const struct cli_flag stack_deploy_flags[] = {
    { 'c', "compose-file", "strings", "Path to a Compose file, or \"-\" to read from stdin" },
    { 'd', "detach", "", "Exit immediately instead of waiting for the stack services to converge (default true)" },
    { 0, "orchestrator", "string", "", true },
    { 0, "prune", "", "Prune services that are no longer referenced" },
    { 'q', "quiet", "", "Suppress progress output" },
    { 0, "resolve-image", "string", "Query the registry to resolve image digest and supported platforms (\"always\", \"changed\", \"never\") (default \"always\")" },
    { 0, "with-registry-auth", "", "Send registry authentication details to Swarm agents" },
    { 0 }
};

static const struct cli_flag stack_ls_flags[] = {
    { 0, "format", "string", "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 0, "orchestrator", "string", "", true },
    { 0 }
};

static const struct cli_flag stack_ps_flags[] = {
    { 'f', "filter", "filter", "Filter output based on conditions provided" },
    { 0, "format", "string", "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 0, "no-resolve", "", "Do not map IDs to Names" },
    { 0, "no-trunc", "", "Do not truncate output" },
    { 0, "orchestrator", "string", "", true },
    { 'q', "quiet", "", "Only display task IDs" },
    { 0 }
};

static const struct cli_flag stack_rm_flags[] = {
    { 'd', "detach", "", "Do not wait for stack removal (default true)" },
    { 0, "orchestrator", "string", "", true },
    { 0 }
};

static const struct cli_flag stack_services_flags[] = {
    { 'f', "filter", "filter", "Filter output based on conditions provided" },
    { 0, "format", "string", "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 0, "orchestrator", "string", "", true },
    { 'q', "quiet", "", "Only display IDs" },
    { 0 }
};

static const struct cli_flag swarm_ca_flags[] = {
    { 0, "ca-cert", "pem-file", "Path to the PEM-formatted root CA certificate to use for the new cluster" },
    { 0, "ca-key", "pem-file", "Path to the PEM-formatted root CA key to use for the new cluster" },
    { 0, "cert-expiry", "duration", "Validity period for node certificates (ns|us|ms|s|m|h) (default 2160h0m0s)" },
    { 'd', "detach", "", "Exit immediately instead of waiting for the root rotation to converge" },
    { 0, "external-ca", "external-ca", "Specifications of one or more certificate signing endpoints" },
    { 'q', "quiet", "", "Suppress progress output" },
    { 0, "rotate", "", "Rotate the swarm CA - if no certificate or key are provided, new ones will be generated" },
    { 0 }
};

static const struct cli_flag swarm_init_flags[] = {
    { 0, "advertise-addr", "string", "Advertised address (format: \"<ip|interface>[:port]\")" },
    { 0, "autolock", "", "Enable manager autolocking (requiring an unlock key to start a stopped manager)" },
    { 0, "availability", "string", "Availability of the node (\"active\", \"pause\", \"drain\") (default \"active\")" },
    { 0, "cert-expiry", "duration", "Validity period for node certificates (ns|us|ms|s|m|h) (default 2160h0m0s)" },
    { 0, "data-path-addr", "string", "Address or interface to use for data path traffic (format: \"<ip|interface>\")" },
    { 0, "data-path-port", "uint32", "Port number to use for data path traffic (1024 - 49151). If no value is set or is set to 0, the default port (4789) is used." },
    { 0, "default-addr-pool", "ipNetSlice", "default address pool in CIDR format (default [])" },
    { 0, "default-addr-pool-mask-length", "uint32", "default address pool subnet mask length (default 24)" },
    { 0, "dispatcher-heartbeat", "duration", "Dispatcher heartbeat period (ns|us|ms|s|m|h) (default 5s)" },
    { 0, "external-ca", "external-ca", "Specifications of one or more certificate signing endpoints" },
    { 0, "force-new-cluster", "", "Force create a new cluster from current state" },
    { 0, "listen-addr", "node-addr", "Listen address (format: \"<ip|interface>[:port]\") (default 0.0.0.0:2377)" },
    { 0, "max-snapshots", "uint", "Number of additional Raft snapshots to retain" },
    { 0, "snapshot-interval", "uint", "Number of log entries between Raft snapshots (default 10000)" },
    { 0, "task-history-limit", "int", "Task history retention limit (default 5)" },
    { 0 }
};

static const struct cli_flag swarm_join_flags[] = {
    { 0, "advertise-addr", "string", "Advertised address (format: \"<ip|interface>[:port]\")" },
    { 0, "availability", "string", "Availability of the node (\"active\", \"pause\", \"drain\") (default \"active\")" },
    { 0, "data-path-addr", "string", "Address or interface to use for data path traffic (format: \"<ip|interface>\")" },
    { 0, "listen-addr", "node-addr", "Listen address (format: \"<ip|interface>[:port]\") (default 0.0.0.0:2377)" },
    { 0, "token", "string", "Token for entry into the swarm" },
    { 0 }
};

static const struct cli_flag swarm_join_token_flags[] = {
    { 'q', "quiet", "", "Only display token" },
    { 0, "rotate", "", "Rotate join token" },
    { 0 }
};

static const struct cli_flag swarm_leave_flags[] = {
    { 'f', "force", "", "Force this node to leave the swarm, ignoring warnings" },
    { 0 }
};

static const struct cli_flag swarm_unlock_key_flags[] = {
    { 'q', "quiet", "", "Only display token" },
    { 0, "rotate", "", "Rotate unlock key" },
    { 0 }
};

static const struct cli_flag swarm_update_flags[] = {
    { 0, "autolock", "", "Change manager autolocking setting (true|false)" },
    { 0, "cert-expiry", "duration", "Validity period for node certificates (ns|us|ms|s|m|h) (default 2160h0m0s)" },
    { 0, "dispatcher-heartbeat", "duration", "Dispatcher heartbeat period (ns|us|ms|s|m|h) (default 5s)" },
    { 0, "external-ca", "external-ca", "Specifications of one or more certificate signing endpoints" },
    { 0, "max-snapshots", "uint", "Number of additional Raft snapshots to retain" },
    { 0, "snapshot-interval", "uint", "Number of log entries between Raft snapshots (default 10000)" },
    { 0, "task-history-limit", "int", "Task history retention limit (default 5)" },
    { 0 }
};

const struct cli_command cli_swarm_commands[] = {
    { .spellings = "config create",
      .arguments = "[OPTIONS] CONFIG file|-",
      .summary = "Create a config from a file or STDIN",
      .min = 2,
      .max = 2,
      .flags = config_create_flags },
    { .spellings = "config inspect",
      .arguments = "[OPTIONS] CONFIG [CONFIG...]",
      .summary = "Display detailed information on one or more configs",
      .min = 1,
      .max = CLI_ANY,
      .flags = config_inspect_flags },
    { .spellings = "config ls,config list",
      .arguments = "[OPTIONS]",
      .summary = "List configs",
      .max = 0,
      .flags = config_ls_flags },
    { .spellings = "config rm,config remove",
      .arguments = "CONFIG [CONFIG...]",
      .summary = "Remove one or more configs",
      .min = 1,
      .max = CLI_ANY },
    { .spellings = "node demote",
      .arguments = "NODE [NODE...]",
      .summary = "Demote one or more nodes from manager in the swarm",
      .min = 1,
      .max = CLI_ANY },
    { .spellings = "node inspect",
      .arguments = "[OPTIONS] self|NODE [NODE...]",
      .summary = "Display detailed information on one or more nodes",
      .min = 1,
      .max = CLI_ANY,
      .flags = node_inspect_flags },
    { .spellings = "node ls,node list",
      .arguments = "[OPTIONS]",
      .summary = "List nodes in the swarm",
      .max = 0,
      .flags = node_ls_flags },
    { .spellings = "node promote",
      .arguments = "NODE [NODE...]",
      .summary = "Promote one or more nodes to manager in the swarm",
      .min = 1,
      .max = CLI_ANY },
    { .spellings = "node ps",
      .arguments = "[OPTIONS] [NODE...]",
      .summary = "List tasks running on one or more nodes, defaults to current node",
      .max = CLI_ANY,
      .flags = node_ps_flags },
    { .spellings = "node rm,node remove",
      .arguments = "[OPTIONS] NODE [NODE...]",
      .summary = "Remove one or more nodes from the swarm",
      .min = 1,
      .max = CLI_ANY,
      .flags = node_rm_flags },
    { .spellings = "node update",
      .arguments = "[OPTIONS] NODE",
      .summary = "Update a node",
      .min = 1,
      .max = 1,
      .flags = node_update_flags },
    { .spellings = "secret create",
      .arguments = "[OPTIONS] SECRET [file|-]",
      .summary = "Create a secret from a file or STDIN as content",
      .min = 1,
      .max = 2,
      .flags = secret_create_flags },
    { .spellings = "secret inspect",
      .arguments = "[OPTIONS] SECRET [SECRET...]",
      .summary = "Display detailed information on one or more secrets",
      .min = 1,
      .max = CLI_ANY,
      .flags = secret_inspect_flags },
    { .spellings = "secret ls,secret list",
      .arguments = "[OPTIONS]",
      .summary = "List secrets",
      .max = 0,
      .flags = secret_ls_flags },
    { .spellings = "secret rm,secret remove",
      .arguments = "SECRET [SECRET...]",
      .summary = "Remove one or more secrets",
      .min = 1,
      .max = CLI_ANY },
    { .spellings = "service create",
      .arguments = "[OPTIONS] IMAGE [COMMAND] [ARG...]",
      .summary = "Create a new service",
      .min = 1,
      .max = CLI_ANY,
      .stop_at_argument = true,
      .flags = service_create_flags },
    { .spellings = "service inspect",
      .arguments = "[OPTIONS] SERVICE [SERVICE...]",
      .summary = "Display detailed information on one or more services",
      .min = 1,
      .max = CLI_ANY,
      .flags = service_inspect_flags },
    { .spellings = "service logs",
      .arguments = "[OPTIONS] SERVICE|TASK",
      .summary = "Fetch the logs of a service or task",
      .min = 1,
      .max = 1,
      .flags = service_logs_flags },
    { .spellings = "service ls,service list",
      .arguments = "[OPTIONS]",
      .summary = "List services",
      .max = 0,
      .flags = service_ls_flags },
    { .spellings = "service ps",
      .arguments = "[OPTIONS] SERVICE [SERVICE...]",
      .summary = "List the tasks of one or more services",
      .min = 1,
      .max = CLI_ANY,
      .flags = service_ps_flags },
    { .spellings = "service rm,service remove",
      .arguments = "SERVICE [SERVICE...]",
      .summary = "Remove one or more services",
      .min = 1,
      .max = CLI_ANY },
    { .spellings = "service rollback",
      .arguments = "[OPTIONS] SERVICE",
      .summary = "Revert changes to a service's configuration",
      .min = 1,
      .max = 1,
      .flags = service_rollback_flags },
    { .spellings = "service scale",
      .arguments = "SERVICE=REPLICAS [SERVICE=REPLICAS...]",
      .summary = "Scale one or multiple replicated services",
      .min = 1,
      .max = CLI_ANY,
      .flags = service_scale_flags },
    { .spellings = "service update",
      .arguments = "[OPTIONS] SERVICE",
      .summary = "Update a service",
      .min = 1,
      .max = 1,
      .flags = service_update_flags },
    { .spellings = "stack config",
      .arguments = "[OPTIONS]",
      .summary = "Outputs the final config file, after doing merges and interpolations",
      .max = 0,
      .flags = stack_config_flags },
    { .spellings = "stack deploy,stack up",
      .arguments = "[OPTIONS] STACK",
      .summary = "Deploy a new stack or update an existing stack",
      .min = 1,
      .max = 1,
      .flags = stack_deploy_flags },
    { .spellings = "stack ls,stack list",
      .arguments = "[OPTIONS]",
      .summary = "List stacks",
      .max = 0,
      .flags = stack_ls_flags },
    { .spellings = "stack ps",
      .arguments = "[OPTIONS] STACK",
      .summary = "List the tasks in the stack",
      .min = 1,
      .max = 1,
      .flags = stack_ps_flags },
    { .spellings = "stack rm,stack remove,stack down",
      .arguments = "[OPTIONS] STACK [STACK...]",
      .summary = "Remove one or more stacks",
      .min = 1,
      .max = CLI_ANY,
      .flags = stack_rm_flags },
    { .spellings = "stack services",
      .arguments = "[OPTIONS] STACK",
      .summary = "List the services in the stack",
      .min = 1,
      .max = 1,
      .flags = stack_services_flags },
    { .spellings = "swarm ca",
      .arguments = "[OPTIONS]",
      .summary = "Display and rotate the root CA",
      .max = 0,
      .flags = swarm_ca_flags },
    { .spellings = "swarm init",
      .arguments = "[OPTIONS]",
      .summary = "Initialize a swarm",
      .max = 0,
      .flags = swarm_init_flags },
    { .spellings = "swarm join",
      .arguments = "[OPTIONS] HOST:PORT",
      .summary = "Join a swarm as a node and/or manager",
      .min = 1,
      .max = 1,
      .flags = swarm_join_flags },
    { .spellings = "swarm join-token",
      .arguments = "[OPTIONS] (worker|manager)",
      .summary = "Manage join tokens",
      .min = 1,
      .max = 1,
      .flags = swarm_join_token_flags },
    { .spellings = "swarm leave",
      .arguments = "[OPTIONS]",
      .summary = "Leave the swarm",
      .max = 0,
      .flags = swarm_leave_flags },
    { .spellings = "swarm unlock",
      .arguments = "",
      .summary = "Unlock swarm",
      .max = 0 },
    { .spellings = "swarm unlock-key",
      .arguments = "[OPTIONS]",
      .summary = "Manage the unlock key",
      .max = 0,
      .flags = swarm_unlock_key_flags },
    { .spellings = "swarm update",
      .arguments = "[OPTIONS]",
      .summary = "Update the swarm",
      .max = 0,
      .flags = swarm_update_flags },
    { 0 }
};
/* clang-format on */
