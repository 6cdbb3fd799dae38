/* Images: the commands with their options. The texts are the contract with scripts and people: those of docker 28.2. */
#include "cli/cli-internal.h"

/* clang-format off */
static const struct cli_flag image_build_flags[] = {
    { 0, "add-host", "list", "Add a custom host-to-IP mapping (\"host:ip\")" },
    { 0, "allow", "strings", "Allow an entitlement" },
    { 0, "build-arg", "list", "Set build-time variables" },
    { 0, "build-context", "list", "Additional build contexts (e.g., \"name=path\")" },
    { 0, "cache-from", "strings", "Images to consider as cache sources" },
    { 0, "cache-to", "list", "Where to export the cache to" },
    { 0, "cgroup-parent", "string", "Set the parent cgroup for the \"RUN\" instructions during build" },
    { 0, "check", "", "Check the Dockerfile only" },
    { 0, "compress", "", "Compress the build context using gzip" },
    { 0, "cpu-period", "int", "Limit the CPU CFS (Completely Fair Scheduler) period" },
    { 0, "cpu-quota", "int", "Limit the CPU CFS (Completely Fair Scheduler) quota" },
    { 'c', "cpu-shares", "int", "CPU shares (relative weight)" },
    { 0, "cpuset-cpus", "string", "CPUs in which to allow execution (0-3, 0,1)" },
    { 0, "cpuset-mems", "string", "MEMs in which to allow execution (0-3, 0,1)" },
    { 0, "disable-content-trust", "", "Skip image verification (default true)" },
    { 'f', "file", "string", "Name of the Dockerfile (Default is \"PATH/Dockerfile\")" },
    { 0, "force-rm", "", "Always remove intermediate containers" },
    { 0, "iidfile", "string", "Write the image ID to the file" },
    { 0, "isolation", "string", "Container isolation technology" },
    { 0, "label", "list", "Set metadata for an image" },
    { 'm', "memory", "bytes", "Memory limit" },
    { 0, "memory-swap", "bytes", "Swap limit equal to memory plus swap: -1 to enable unlimited swap" },
    { 0, "metadata-file", "string", "Write build result metadata to a file" },
    { 0, "network", "string", "Set the networking mode for the RUN instructions during build (default \"default\")" },
    { 0, "no-cache", "", "Do not use cache when building the image" },
    { 0, "no-cache-filter", "list", "Do not cache specified stages" },
    { 'o', "output", "list", "Output destination" },
    { 0, "pids-limit", "int", "Limit the number of processes of a step" },
    { 0, "platform", "string", "Set platform if server is multi-platform capable" },
    { 0, "progress", "string", "auto, quiet, plain, tty or rawjson" },
    { 0, "pull", "", "Always attempt to pull a newer version of the image" },
    { 0, "push", "", "Shorthand for \"--output=type=registry\"" },
    { 'q', "quiet", "", "Suppress the build output and print image ID on success" },
    { 0, "rm", "", "Remove intermediate containers after a successful build (default true)" },
    { 0, "secret", "list", "Secret for RUN --mount" },
    { 0, "security-opt", "strings", "Security options" },
    { 0, "shell-on-failure", "", "Open a shell in a step that failed" },
    { 0, "shm-size", "bytes", "Size of \"/dev/shm\"" },
    { 0, "squash", "", "Squash newly built layers into a single new layer" },
    { 0, "ssh", "list", "SSH agent for RUN --mount" },
    { 't', "tag", "list", "Name and optionally a tag in the \"name:tag\" format" },
    { 0, "target", "string", "Set the target build stage to build." },
    { 0, "ulimit", "ulimit", "Ulimit options (default [])" },
    { 0 }
};

static const struct cli_flag image_history_flags[] = {
    { 0, "format", "string", "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 'H', "human", "", "Print sizes and dates in human readable format (default true)" },
    { 0, "no-trunc", "", "Don't truncate output" },
    { 0, "platform", "string", "Show history for the given platform. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")" },
    { 'q', "quiet", "", "Only show image IDs" },
    { 0 }
};

static const struct cli_flag image_import_flags[] = {
    { 'c', "change", "list", "Apply Dockerfile instruction to the created image" },
    { 'm', "message", "string", "Set commit message for imported image" },
    { 0, "platform", "string", "Set platform if server is multi-platform capable" },
    { 0 }
};

static const struct cli_flag image_inspect_flags[] = {
    { 'f', "format", "string", "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 0, "platform", "string", "Inspect a specific platform of the multi-platform image.\nIf the image or the server is not multi-platform capable, the command will error out if the platform does not match.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)" },
    { 0 }
};

static const struct cli_flag image_load_flags[] = {
    { 'i', "input", "string", "Read from tar archive file, instead of STDIN" },
    { 0, "platform", "string", "Load only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")" },
    { 'q', "quiet", "", "Suppress the load output" },
    { 0 }
};

static const struct cli_flag image_ls_flags[] = {
    { 'a', "all", "", "Show all images (default hides intermediate images)" },
    { 0, "digests", "", "Show digests" },
    { 'f', "filter", "filter", "Filter output based on conditions provided" },
    { 0, "format", "string", "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates" },
    { 0, "no-trunc", "", "Don't truncate output" },
    { 'q', "quiet", "", "Only show image IDs" },
    { 0, "tree", "", "List multi-platform images as a tree (EXPERIMENTAL)" },
    { 0 }
};

static const struct cli_flag image_prune_flags[] = {
    { 'a', "all", "", "Remove all unused images, not just dangling ones" },
    { 0, "filter", "filter", "Provide filter values (e.g. \"until=<timestamp>\")" },
    { 'f', "force", "", "Do not prompt for confirmation" },
    { 0 }
};

static const struct cli_flag image_pull_flags[] = {
    { 'a', "all-tags", "", "Download all tagged images in the repository" },
    { 0, "disable-content-trust", "", "Skip image verification (default true)" },
    { 0, "platform", "string", "Set platform if server is multi-platform capable" },
    { 'q', "quiet", "", "Suppress verbose output" },
    { 0 }
};

static const struct cli_flag image_push_flags[] = {
    { 'a', "all-tags", "", "Push all tags of an image to the repository" },
    { 0, "compression", "string", "How layers that have to be compressed are: \"gzip\", \"zstd\" (default \"gzip\")", true },
    { 0, "disable-content-trust", "", "Skip image signing (default true)" },
    { 0, "platform", "string", "Push a platform-specific manifest as a single-platform image to the registry.\nImage index won't be pushed, meaning that other manifests, including attestations won't be preserved.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)" },
    { 'q', "quiet", "", "Suppress verbose output" },
    { 0 }
};

static const struct cli_flag image_exchange_flags[] = {
    { 'q', "quiet", "", "Suppress verbose output" },
    { 0 }
};

static const struct cli_flag image_rm_flags[] = {
    { 'f', "force", "", "Force removal of the image" },
    { 0, "no-prune", "", "Do not delete untagged parents" },
    { 0, "platform", "strings", "Remove only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")" },
    { 0 }
};

static const struct cli_flag image_save_flags[] = {
    { 'o', "output", "string", "Write to a file, instead of STDOUT" },
    { 0, "platform", "string", "Save only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")" },
    { 0 }
};

const struct cli_command cli_image_commands[] = {
    { .spellings = "image build,build,builder build",
      .arguments = "[OPTIONS] PATH | URL | -",
      .summary = "Build an image from a Dockerfile",
      .min = 1,
      .max = 1,
      .rank = 4,
      .flags = image_build_flags,
      .run = cmd_image_build },
    { .spellings = "image history,history",
      .arguments = "[OPTIONS] IMAGE",
      .summary = "Show the history of an image",
      .min = 1,
      .max = 1,
      .flags = image_history_flags,
      .run = cmd_image_history },
    { .spellings = "image import,import",
      .arguments = "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
      .summary = "Import the contents from a tarball to create a filesystem image",
      .min = 1,
      .max = CLI_ANY,
      .flags = image_import_flags,
      .run = cmd_image_import },
    { .spellings = "image inspect",
      .arguments = "[OPTIONS] IMAGE [IMAGE...]",
      .summary = "Display detailed information on one or more images",
      .min = 1,
      .max = CLI_ANY,
      .flags = image_inspect_flags,
      .run = cmd_image_inspect },
    { .spellings = "image load,load",
      .arguments = "[OPTIONS]",
      .summary = "Load an image from a tar archive or STDIN",
      .max = 0,
      .flags = image_load_flags,
      .run = cmd_image_load },
    { .spellings = "image ls,image list,images",
      .arguments = "[OPTIONS] [REPOSITORY[:TAG]]",
      .summary = "List images",
      .max = 1,
      .rank = 7,
      .flags = image_ls_flags,
      .run = cmd_image_ls },
    { .spellings = "image prune",
      .arguments = "[OPTIONS]",
      .summary = "Remove unused images",
      .max = 0,
      .flags = image_prune_flags,
      .run = cmd_image_prune },
    { .spellings = "image pull,pull",
      .arguments = "[OPTIONS] NAME[:TAG|@DIGEST]",
      .summary = "Download an image from a registry",
      .min = 1,
      .max = 1,
      .rank = 5,
      .flags = image_pull_flags,
      .run = cmd_image_pull },
    { .spellings = "image pull-from",
      .arguments = "[OPTIONS] HOST IMAGE [IMAGE...]",
      .summary = "Copy images from another engine (ssh://[USER@]HOST[/SOCKET]), without a registry",
      .min = 2,
      .max = CLI_ANY,
      .own = true,
      .flags = image_exchange_flags,
      .run = cmd_image_pull_from },
    { .spellings = "image push,push",
      .arguments = "[OPTIONS] NAME[:TAG]",
      .summary = "Upload an image to a registry",
      .min = 1,
      .max = 1,
      .rank = 6,
      .flags = image_push_flags,
      .run = cmd_image_push },
    { .spellings = "image push-to",
      .arguments = "[OPTIONS] HOST IMAGE [IMAGE...]",
      .summary = "Copy images to another engine (ssh://[USER@]HOST[/SOCKET]), without a registry",
      .min = 2,
      .max = CLI_ANY,
      .own = true,
      .flags = image_exchange_flags,
      .run = cmd_image_push_to },
    { .spellings = "image rm,image remove,rmi",
      .arguments = "[OPTIONS] IMAGE [IMAGE...]",
      .summary = "Remove one or more images",
      .min = 1,
      .max = CLI_ANY,
      .flags = image_rm_flags,
      .run = cmd_image_rm },
    { .spellings = "image save,save",
      .arguments = "[OPTIONS] IMAGE [IMAGE...]",
      .summary = "Save one or more images to a tar archive (streamed to STDOUT by default)",
      .min = 1,
      .max = CLI_ANY,
      .flags = image_save_flags,
      .run = cmd_image_save },
    { .spellings = "image tag,tag",
      .arguments = "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
      .summary = "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
      .min = 2,
      .max = 2,
      .stop_at_argument = true,
      .run = cmd_image_tag },
    { .spellings = "image verify",
      .arguments = "[IMAGE...]",
      .summary = "Recompute the digests of all layers of images (all images by default), and make their indexes again",
      .own = true,
      .max = CLI_ANY,
      .run = cmd_image_verify },
    { 0 }
};
/* clang-format on */
