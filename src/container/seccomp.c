/* Compiled seccomp filters. Compiling takes 50 ms for three architectures, so each policy is compiled once: kept in memory, and
 * in the run root for the next tared. */
#include "container/container-internal.h"

#include "base/file.h"
#include "runtime/runtime.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define FILTER_MAX (1u << 20)

/* Names the policy without building it: the default one depends on the capabilities alone. */
static bool policy_digest(const json_t *host_config, char ret[DIGEST_ROOM], GError **error)
{
    g_auto(GStrv) capabilities = NULL;
    size_t i;
    json_t *value;
    if (!spec_capabilities(host_config, &capabilities, error))
        return false;
    g_autofree char *joined = g_strjoinv(",", capabilities);
    g_autoptr(GString) key = g_string_new(TARE_VERSION "\n");
    g_string_append(key, joined);
    json_array_foreach(json_get_array(host_config, "SecurityOpt"), i,
                       value) if (g_str_has_prefix(json_string_value(value), "seccomp"))
        g_string_append_printf(key, "\n%s", json_string_value(value));
    digest_of(key->str, key->len, ret);
    return true;
}

static bool compile(const json_t *host_config, GByteArray **ret, GError **error)
{
    g_autoptr(json_t) policy = NULL;
    return spec_seccomp(host_config, &policy, error) && runtime_seccomp_compile(policy, ret, error);
}

/* From the run root, or compiled and put there. Only root can write there, so what is read is trusted. */
static bool load_or_compile(struct container_manager *manager, const char *name, const json_t *host_config, GByteArray **ret,
                            GError **error)
{
    g_autofree char *directory = g_build_filename(manager->run_root, "seccomp", NULL);
    g_autofree char *text = NULL;
    size_t length;
    g_autofd int fd = dir_make_path(directory, 0700, error);
    if (fd < 0)
        return false;
    if (file_read(fd, name, FILTER_MAX, &text, &length, NULL) && length) {
        *ret = g_byte_array_new_take((guint8 *)g_steal_pointer(&text), length);
        return true;
    }
    if (!compile(host_config, ret, error))
        return false;
    file_write(fd, name, (*ret)->data, (*ret)->len, 0600, false, NULL);
    return true;
}

bool seccomp_filter(struct container_manager *manager, const json_t *host_config, int *ret, GError **error)
{
    char digest[DIGEST_ROOM];
    size_t i;
    json_t *value;
    *ret = -1;
    if (json_get_bool(host_config, "Privileged", false))
        return true;
    json_array_foreach(json_get_array(host_config, "SecurityOpt"), i,
                       value) if (!strcmp(json_string_value(value), "seccomp=unconfined") ||
                                  !strcmp(json_string_value(value), "seccomp:unconfined")) return true;
    if (!policy_digest(host_config, digest, error))
        return false;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&manager->seccomp_lock);
    void *stored = g_hash_table_lookup(manager->seccomp, digest);
    if (!stored) {
        g_autoptr(GByteArray) filter = NULL;
        if (!load_or_compile(manager, digest_hex(digest), host_config, &filter, error))
            return false;
        int fd = fd_new_sealed("seccomp", filter->data, filter->len, error);
        if (fd < 0)
            return false;
        stored = GINT_TO_POINTER(fd + 1);
        g_hash_table_insert(manager->seccomp, g_strdup(digest), stored);
    }
    *ret = fcntl(GPOINTER_TO_INT(stored) - 1, F_DUPFD_CLOEXEC, 3);
    return *ret >= 0 || error_set(error, TARE_ERROR_INTERNAL, "duplicate seccomp filter");
}
