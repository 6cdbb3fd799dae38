/* Networks, volumes, plugins, manifests and trust: the commands with their options. The texts are the contract with
 * scripts and people: those of docker 28.2. */
#include "cli/cli-internal.h"

/* clang-format off */
static const struct cli_flag checkpoint_create_flags[] = {
    { 0, "checkpoint-dir", "string", "Use a custom checkpoint storage directory" },
    { 0, "leave-running", "", "Leave the container running after checkpoint" },
    { 0 }
};

static const struct cli_flag checkpoint_ls_flags[] = {
    { 0, "checkpoint-dir", "string", "Use a custom checkpoint storage directory" },
    { 0 }
};

static const struct cli_flag checkpoint_rm_flags[] = {
    { 0, "checkpoint-dir", "string", "Use a custom checkpoint storage directory" },
    { 0 }
};

static const struct cli_flag imagetools_inspect_flags[] = {
    { 0, "format", "string", "Format the output using the given Go template" },
    { 0, "raw", "", "Show original, unformatted JSON manifest" },
    { 0 }
};

static const struct cli_flag manifest_annotate_flags[] = {
    { 0, "arch", "string", "Set architecture" },
    { 0, "os", "string", "Set operating system" },
    { 0, "os-features", "strings", "Set operating system feature" },
    { 0, "os-version", "string", "Set operating system version" },
    { 0, "variant", "string", "Set architecture variant" },
    { 0 }
};

static const struct cli_flag manifest_create_flags[] = {
    { 'a', "amend", "", "Amend an existing manifest list" },
    { 0, "insecure", "", "Allow communication with an insecure registry" },
    { 0 }
};

static const struct cli_flag manifest_inspect_flags[] = {
    { 0, "insecure", "", "Allow communication with an insecure registry" },
    { 'v', "verbose", "", "Output additional info including layers and platform" },
    { 0 }
};

static const struct cli_flag manifest_push_flags[] = {
    { 0, "insecure", "", "Allow push to an insecure registry" },
    { 'p', "purge", "", "Remove the local manifest list after push" },
    { 0 }
};

static const struct cli_flag network_connect_flags[] = {
    { 0, "alias", "strings", "Add network-scoped alias for the container" },
    { 0, "driver-opt", "strings", "driver options for the network" },
    { 0, "gw-priority", "int", "Highest gw-priority provides the default gateway. Accepts positive and negative values." },
    { 0, "ip", "string", "IPv4 address (e.g., \"172.30.100.104\")" },
    { 0, "ip6", "string", "IPv6 address (e.g., \"2001:db8::33\")" },
    { 0, "link", "list", "Add link to another container" },
    { 0, "link-local-ip", "strings", "Add a link-local address for the container" },
    { 0 }
};

static const struct cli_flag network_create_flags[] = {
    { 0, "attachable", "", "Enable manual container attachment" },
    { 0, "aux-address", "map", "Auxiliary IPv4 or IPv6 addresses used by Network driver (default map[])" },
    { 0, "config-from", "string", "The network from which to copy the configuration" },
    { 0, "config-only", "", "Create a configuration only network" },
    { 'd', "driver", "string", "Driver to manage the Network (default \"bridge\")" },
    { 0, "gateway", "strings", "IPv4 or IPv6 Gateway for the master subnet" },
    { 0, "ingress", "", "Create swarm routing-mesh network" },
    { 0, "internal", "", "Restrict external access to the network" },
    { 0, "ip-range", "strings", "Allocate container ip from a sub-range" },
    { 0, "ipam-driver", "string", "IP Address Management Driver (default \"default\")" },
    { 0, "ipam-opt", "map", "Set IPAM driver specific options (default map[])" },
    { 0, "ipv4", "", "Enable or disable IPv4 address assignment (default true)" },
    { 0, "ipv6", "", "Enable or disable IPv6 address assignment" },
    { 0, "label", "list", "Set metadata on a network" },
    { 'o', "opt", "map", "Set driver specific options (default map[])" },
    { 0, "scope", "string", "Control the network's scope" },
    { 0, "subnet", "strings", "Subnet in CIDR format that represents a network segment" },
    { 0 }
};

static const struct cli_flag network_disconnect_flags[] = {
    { 'f', "force", "", "Force the container to disconnect from a network" },
    { 0 }
};

static const struct cli_flag network_inspect_flags[] = {
    { 'f', "format", "string", "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 'v', "verbose", "", "Verbose output for diagnostics" },
    { 0 }
};

static const struct cli_flag network_ls_flags[] = {
    { 'f', "filter", "filter", "Provide filter values (e.g. \"driver=bridge\")" },
    { 0, "format", "string", "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 0, "no-trunc", "", "Do not truncate the output" },
    { 'q', "quiet", "", "Only display network IDs" },
    { 0 }
};

static const struct cli_flag network_prune_flags[] = {
    { 0, "filter", "filter", "Provide filter values (e.g. \"until=<timestamp>\")" },
    { 'f', "force", "", "Do not prompt for confirmation" },
    { 0 }
};

static const struct cli_flag network_rm_flags[] = {
    { 'f', "force", "", "Do not error if the network does not exist" },
    { 0 }
};

static const struct cli_flag plugin_create_flags[] = {
    { 0, "compress", "", "Compress the context using gzip" },
    { 0 }
};

static const struct cli_flag plugin_disable_flags[] = {
    { 'f', "force", "", "Force the disable of an active plugin" },
    { 0 }
};

static const struct cli_flag plugin_enable_flags[] = {
    { 0, "timeout", "int", "HTTP client timeout (in seconds) (default 30)" },
    { 0 }
};

static const struct cli_flag plugin_inspect_flags[] = {
    { 'f', "format", "string", "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 0 }
};

static const struct cli_flag plugin_install_flags[] = {
    { 0, "alias", "string", "Local name for plugin" },
    { 0, "disable", "", "Do not enable the plugin on install" },
    { 0, "disable-content-trust", "", "Skip image verification (default true)" },
    { 0, "grant-all-permissions", "", "Grant all permissions necessary to run the plugin" },
    { 0 }
};

static const struct cli_flag plugin_ls_flags[] = {
    { 'f', "filter", "filter", "Provide filter values (e.g. \"enabled=true\")" },
    { 0, "format", "string", "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 0, "no-trunc", "", "Don't truncate output" },
    { 'q', "quiet", "", "Only display plugin IDs" },
    { 0 }
};

static const struct cli_flag plugin_push_flags[] = {
    { 0, "disable-content-trust", "", "Skip image signing (default true)" },
    { 0 }
};

static const struct cli_flag plugin_rm_flags[] = {
    { 'f', "force", "", "Force the removal of an active plugin" },
    { 0 }
};

static const struct cli_flag plugin_upgrade_flags[] = {
    { 0, "disable-content-trust", "", "Skip image verification (default true)" },
    { 0, "grant-all-permissions", "", "Grant all permissions necessary to run the plugin" },
    { 0, "skip-remote-check", "", "Do not check if specified remote plugin matches existing plugin image" },
    { 0 }
};

static const struct cli_flag trust_inspect_flags[] = {
    { 0, "pretty", "", "Print the information in a human friendly format" },
    { 0 }
};

static const struct cli_flag trust_key_generate_flags[] = {
    { 0, "dir", "string", "Directory to generate key in, defaults to current directory" },
    { 0 }
};

static const struct cli_flag trust_key_load_flags[] = {
    { 0, "name", "string", "Name for the loaded key (default \"signer\")" },
    { 0 }
};

static const struct cli_flag trust_revoke_flags[] = {
    { 'y', "yes", "", "Do not prompt for confirmation" },
    { 0 }
};

static const struct cli_flag trust_sign_flags[] = {
    { 0, "local", "", "Sign a locally tagged image" },
    { 0 }
};

static const struct cli_flag trust_signer_add_flags[] = {
    { 0, "key", "list", "Path to the signer's public key file" },
    { 0 }
};

static const struct cli_flag trust_signer_remove_flags[] = {
    { 'f', "force", "", "Do not prompt for confirmation before removing the most recent signer" },
    { 0 }
};

static const struct cli_flag volume_create_flags[] = {
    { 0, "availability", "string", "Cluster Volume availability (\"active\", \"pause\", \"drain\") (default \"active\")" },
    { 'd', "driver", "string", "Specify volume driver name (default \"local\")" },
    { 0, "group", "string", "Cluster Volume group (cluster volumes)" },
    { 0, "label", "list", "Set metadata for a volume" },
    { 0, "limit-bytes", "bytes", "Minimum size of the Cluster Volume in bytes" },
    { 0, "name", "string", "", true },
    { 'o', "opt", "map", "Set driver specific options (default map[])" },
    { 0, "required-bytes", "bytes", "Maximum size of the Cluster Volume in bytes" },
    { 0, "scope", "string", "Cluster Volume access scope (\"single\", \"multi\") (default \"single\")" },
    { 0, "secret", "map", "Cluster Volume secrets (default map[])" },
    { 0, "sharing", "string", "Cluster Volume access sharing (\"none\", \"readonly\", \"onewriter\", \"all\") (default \"none\")" },
    { 0, "topology-preferred", "list", "A topology that the Cluster Volume would be preferred in" },
    { 0, "topology-required", "list", "A topology that the Cluster Volume must be accessible from" },
    { 0, "type", "string", "Cluster Volume access type (\"mount\", \"block\") (default \"block\")" },
    { 0 }
};

static const struct cli_flag volume_inspect_flags[] = {
    { 'f', "format", "string", "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 0 }
};

static const struct cli_flag volume_ls_flags[] = {
    { 0, "cluster", "", "Display only cluster volumes, and use cluster volume list formatting" },
    { 'f', "filter", "filter", "Provide filter values (e.g. \"dangling=true\")" },
    { 0, "format", "string", "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 'q', "quiet", "", "Only display volume names" },
    { 0 }
};

static const struct cli_flag volume_prune_flags[] = {
    { 'a', "all", "", "Remove all unused volumes, not just anonymous ones" },
    { 0, "filter", "filter", "Provide filter values (e.g. \"label=<label>\")" },
    { 'f', "force", "", "Do not prompt for confirmation" },
    { 0 }
};

static const struct cli_flag volume_rm_flags[] = {
    { 'f', "force", "", "Force the removal of one or more volumes" },
    { 0 }
};

static const struct cli_flag volume_update_flags[] = {
    { 0, "availability", "string", "Cluster Volume availability (\"active\", \"pause\", \"drain\") (default \"active\")" },
    { 0 }
};

const struct cli_command cli_object_commands[] = {
    { .spellings = "checkpoint create",
      .arguments = "[OPTIONS] CONTAINER CHECKPOINT",
      .summary = "Create a checkpoint from a running container",
      .min = 2,
      .max = 2,
      .flags = checkpoint_create_flags },
    { .spellings = "checkpoint ls,checkpoint list",
      .arguments = "[OPTIONS] CONTAINER",
      .summary = "List checkpoints for a container",
      .min = 1,
      .max = 1,
      .flags = checkpoint_ls_flags },
    { .spellings = "checkpoint rm,checkpoint remove",
      .arguments = "[OPTIONS] CONTAINER CHECKPOINT",
      .summary = "Remove a checkpoint",
      .min = 2,
      .max = 2,
      .flags = checkpoint_rm_flags },
    { .spellings = "buildx imagetools inspect",
      .arguments = "[OPTIONS] NAME",
      .summary = "Show details of an image in the registry",
      .min = 1,
      .max = 1,
      .flags = imagetools_inspect_flags,
      .run = cmd_imagetools_inspect },
    { .spellings = "manifest annotate",
      .arguments = "[OPTIONS] MANIFEST_LIST MANIFEST",
      .summary = "Add additional information to a local image manifest",
      .min = 2,
      .max = 2,
      .flags = manifest_annotate_flags,
      .run = cmd_manifest_annotate },
    { .spellings = "manifest create",
      .arguments = "MANIFEST_LIST MANIFEST [MANIFEST...]",
      .summary = "Create a local manifest list for annotating and pushing to a registry",
      .min = 2,
      .max = CLI_ANY,
      .flags = manifest_create_flags,
      .run = cmd_manifest_create },
    { .spellings = "manifest inspect",
      .arguments = "[OPTIONS] [MANIFEST_LIST] MANIFEST",
      .summary = "Display an image manifest, or manifest list",
      .min = 1,
      .max = 2,
      .flags = manifest_inspect_flags,
      .run = cmd_manifest_inspect },
    { .spellings = "manifest push",
      .arguments = "[OPTIONS] MANIFEST_LIST",
      .summary = "Push a manifest list to a repository",
      .min = 1,
      .max = 1,
      .flags = manifest_push_flags,
      .run = cmd_manifest_push },
    { .spellings = "manifest rm",
      .arguments = "MANIFEST_LIST [MANIFEST_LIST...]",
      .summary = "Delete one or more manifest lists from local storage",
      .min = 1,
      .max = CLI_ANY,
      .run = cmd_manifest_rm },
    { .spellings = "network connect",
      .arguments = "[OPTIONS] NETWORK CONTAINER",
      .summary = "Connect a container to a network",
      .min = 2,
      .max = 2,
      .flags = network_connect_flags,
      .run = cmd_network_connect },
    { .spellings = "network create",
      .arguments = "[OPTIONS] NETWORK",
      .summary = "Create a network",
      .min = 1,
      .max = 1,
      .flags = network_create_flags,
      .run = cmd_network_create },
    { .spellings = "network disconnect",
      .arguments = "[OPTIONS] NETWORK CONTAINER",
      .summary = "Disconnect a container from a network",
      .min = 2,
      .max = 2,
      .flags = network_disconnect_flags,
      .run = cmd_network_disconnect },
    { .spellings = "network inspect",
      .arguments = "[OPTIONS] NETWORK [NETWORK...]",
      .summary = "Display detailed information on one or more networks",
      .min = 1,
      .max = CLI_ANY,
      .flags = network_inspect_flags,
      .run = cmd_network_inspect },
    { .spellings = "network ls,network list",
      .arguments = "[OPTIONS]",
      .summary = "List networks",
      .max = 0,
      .flags = network_ls_flags,
      .run = cmd_network_ls },
    { .spellings = "network prune",
      .arguments = "[OPTIONS]",
      .summary = "Remove all unused networks",
      .max = 0,
      .flags = network_prune_flags,
      .run = cmd_network_prune },
    { .spellings = "network rm,network remove",
      .arguments = "NETWORK [NETWORK...]",
      .summary = "Remove one or more networks",
      .min = 1,
      .max = CLI_ANY,
      .flags = network_rm_flags,
      .run = cmd_network_rm },
    { .spellings = "plugin create",
      .arguments = "[OPTIONS] PLUGIN PLUGIN-DATA-DIR",
      .summary = "Create a plugin from a rootfs and configuration. Plugin data directory must contain config.json and rootfs directory.",
      .min = 2,
      .max = CLI_ANY,
      .flags = plugin_create_flags },
    { .spellings = "plugin disable",
      .arguments = "[OPTIONS] PLUGIN",
      .summary = "Disable a plugin",
      .min = 1,
      .max = 1,
      .flags = plugin_disable_flags },
    { .spellings = "plugin enable",
      .arguments = "[OPTIONS] PLUGIN",
      .summary = "Enable a plugin",
      .min = 1,
      .max = 1,
      .flags = plugin_enable_flags },
    { .spellings = "plugin inspect",
      .arguments = "[OPTIONS] PLUGIN [PLUGIN...]",
      .summary = "Display detailed information on one or more plugins",
      .min = 1,
      .max = CLI_ANY,
      .flags = plugin_inspect_flags },
    { .spellings = "plugin install",
      .arguments = "[OPTIONS] PLUGIN [KEY=VALUE...]",
      .summary = "Install a plugin",
      .min = 1,
      .max = CLI_ANY,
      .flags = plugin_install_flags },
    { .spellings = "plugin ls,plugin list",
      .arguments = "[OPTIONS]",
      .summary = "List plugins",
      .max = 0,
      .flags = plugin_ls_flags },
    { .spellings = "plugin push",
      .arguments = "[OPTIONS] PLUGIN[:TAG]",
      .summary = "Push a plugin to a registry",
      .min = 1,
      .max = 1,
      .flags = plugin_push_flags },
    { .spellings = "plugin rm,plugin remove",
      .arguments = "[OPTIONS] PLUGIN [PLUGIN...]",
      .summary = "Remove one or more plugins",
      .min = 1,
      .max = CLI_ANY,
      .flags = plugin_rm_flags },
    { .spellings = "plugin set",
      .arguments = "PLUGIN KEY=VALUE [KEY=VALUE...]",
      .summary = "Change settings for a plugin",
      .min = 2,
      .max = CLI_ANY },
    { .spellings = "plugin upgrade",
      .arguments = "[OPTIONS] PLUGIN [REMOTE]",
      .summary = "Upgrade an existing plugin",
      .min = 1,
      .max = 2,
      .flags = plugin_upgrade_flags },
    { .spellings = "trust inspect",
      .arguments = "IMAGE[:TAG] [IMAGE[:TAG]...]",
      .summary = "Return low-level information about keys and signatures",
      .min = 1,
      .max = CLI_ANY,
      .flags = trust_inspect_flags },
    { .spellings = "trust key generate",
      .arguments = "NAME",
      .summary = "Generate and load a signing key-pair",
      .min = 1,
      .max = 1,
      .flags = trust_key_generate_flags },
    { .spellings = "trust key load",
      .arguments = "[OPTIONS] KEYFILE",
      .summary = "Load a private key file for signing",
      .min = 1,
      .max = 1,
      .flags = trust_key_load_flags },
    { .spellings = "trust revoke",
      .arguments = "[OPTIONS] IMAGE[:TAG]",
      .summary = "Remove trust for an image",
      .min = 1,
      .max = 1,
      .flags = trust_revoke_flags },
    { .spellings = "trust sign",
      .arguments = "IMAGE:TAG",
      .summary = "Sign an image",
      .min = 1,
      .max = 1,
      .flags = trust_sign_flags },
    { .spellings = "trust signer add",
      .arguments = "OPTIONS NAME REPOSITORY [REPOSITORY...]",
      .summary = "Add a signer",
      .min = 2,
      .max = CLI_ANY,
      .flags = trust_signer_add_flags },
    { .spellings = "trust signer remove",
      .arguments = "[OPTIONS] NAME REPOSITORY [REPOSITORY...]",
      .summary = "Remove a signer",
      .min = 2,
      .max = CLI_ANY,
      .flags = trust_signer_remove_flags },
    { .spellings = "volume create",
      .arguments = "[OPTIONS] [VOLUME]",
      .summary = "Create a volume",
      .max = 1,
      .flags = volume_create_flags,
      .run = cmd_volume_create },
    { .spellings = "volume inspect",
      .arguments = "[OPTIONS] VOLUME [VOLUME...]",
      .summary = "Display detailed information on one or more volumes",
      .min = 1,
      .max = CLI_ANY,
      .flags = volume_inspect_flags,
      .run = cmd_volume_inspect },
    { .spellings = "volume ls,volume list",
      .arguments = "[OPTIONS]",
      .summary = "List volumes",
      .max = 0,
      .flags = volume_ls_flags,
      .run = cmd_volume_ls },
    { .spellings = "volume prune",
      .arguments = "[OPTIONS]",
      .summary = "Remove unused local volumes",
      .max = 0,
      .flags = volume_prune_flags,
      .run = cmd_volume_prune },
    { .spellings = "volume rm,volume remove",
      .arguments = "[OPTIONS] VOLUME [VOLUME...]",
      .summary = "Remove one or more volumes",
      .description = "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
      .min = 1,
      .max = CLI_ANY,
      .flags = volume_rm_flags,
      .run = cmd_volume_rm },
    { .spellings = "volume update",
      .arguments = "[OPTIONS] [VOLUME]",
      .summary = "Update a volume (cluster volumes only)",
      .min = 1,
      .max = 1,
      .flags = volume_update_flags },
    { 0 }
};
/* clang-format on */
