/* Failures of a start, as dockerd words them. */
#include "container/container-internal.h"
#include "container/start-internal.h"

#include <string.h>

/* What the runtime library's plan refuses, named by the field of the specification, and what runc says to the same; "%" stands
 * for the text behind ours. */
static const struct {
    const char *ours, *docker;
} plan_errors[] = {
    { "linux.sysctl: ", "runc create failed: %" },
    { "process.rlimits", "runc create failed: %" },
    { "hostname: is longer",
      "runc create failed: unable to start container process: error during container init: sethostname: invalid "
      "argument" },
    { "domainname: is longer",
      "runc create failed: unable to start container process: error during container init: setdomainname: "
      "invalid argument" },
};

bool start_is_plan_error(const GError *error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(plan_errors); i++)
        if (g_str_has_prefix(error->message, plan_errors[i].ours))
            return true;
    return false;
}

static void reword_plan_error(GError *error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(plan_errors); i++) {
        if (!g_str_has_prefix(error->message, plan_errors[i].ours))
            continue;
        g_auto(GStrv) parts = g_strsplit(plan_errors[i].docker, "%", 2);
        const char *rest = strstr(error->message, ": ");
        char *text = g_strconcat(parts[0], parts[1] && rest ? rest + 2 : "", NULL);
        g_free(error->message);
        error->message = text;
        return;
    }
}

/* What dockerd makes of a failure of the runtime: its text, its code for the API and the exit code that the record gets. */
void start_word_error(GError **error, int *ret_exit_code)
{
    static const struct {
        const char *part;
        int exit_code;
    } known[] = {
        { "executable file not found", 127 }, { "no such file or directory", 127 },
        { "permission denied", 126 },         { "is a directory", 126 },
        { "not a directory", 127 },
    };
    GError *old = *error;
    bool plain = g_str_has_prefix(old->message, "unable to find ") || g_str_has_prefix(old->message, "Cannot mkdir") ||
                 g_str_has_prefix(old->message, "Unable to find group ") ||
                 g_str_has_prefix(old->message, "uids and gids must be");
    *ret_exit_code = 128;
    for (size_t i = 0; i < G_N_ELEMENTS(known) && *ret_exit_code == 128; i++)
        if (strstr(old->message, known[i].part))
            *ret_exit_code = known[i].exit_code;
    if (plain)
        return;
    reword_plan_error(old);
    const char *prefix =
        g_str_has_prefix(old->message, "runc create failed") ? "" : "runc create failed: unable to start container process: ";
    const char *bare = g_str_has_prefix(old->message, "unable to start container process: ")
                           ? old->message + strlen("unable to start container process: ")
                           : old->message;
    *error = NULL;
    const char *hint =
        strstr(bare, "error mounting") && strstr(bare, "not a directory")
            ? ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path "
              "exists and is the expected type"
            : "";
    error_set(error, *ret_exit_code == 128 && old->code != TARE_ERROR_INVALID ? TARE_ERROR_INTERNAL : TARE_ERROR_INVALID,
              "failed to create shim task: OCI runtime create failed: %s%s: unknown%s", prefix, bare, hint);
    g_error_free(old);
}
