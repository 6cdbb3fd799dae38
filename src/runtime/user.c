/* Users and groups by a root's own passwd and group files: bounded, strict, and never through NSS, which would load the image's
 * libraries. */
#include "runtime/runtime-internal.h"

#include "base/parse.h"
#include "base/root_path.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ID_MAX G_MAXINT32 /* as Docker: larger ones have become 0 in too many programs */

/* One line cut at its colons. The fields point into the file's text. */
struct record {
    const char *field[7];
    size_t length[7];
    size_t n;
};

/* Takes the next line that is neither empty nor a comment; false at the end. */
static bool next_record(const char **at, struct record *ret)
{
    while (**at) {
        const char *line = *at, *end = strchrnul(line, '\n');
        *at = *end ? end + 1 : end;
        while (line < end && (*line == ' ' || *line == '\t'))
            line++;
        if (line == end || *line == '#')
            continue;
        ret->n = 0;
        while (ret->n < G_N_ELEMENTS(ret->field)) {
            const char *colon = memchr(line, ':', (size_t)(end - line));
            ret->field[ret->n] = line;
            ret->length[ret->n++] = (size_t)((colon ? colon : end) - line);
            if (!colon)
                break;
            line = colon + 1;
        }
        return true;
    }
    return false;
}

static bool field_is(const struct record *record, size_t i, const char *text)
{
    return i < record->n && record->length[i] == strlen(text) && memcmp(record->field[i], text, record->length[i]) == 0;
}

static bool field_id(const struct record *record, size_t i, guint64 *ret)
{
    char digits[12];
    if (i >= record->n || record->length[i] == 0 || record->length[i] >= sizeof digits)
        return false;
    memcpy(digits, record->field[i], record->length[i]);
    digits[record->length[i]] = '\0';
    return parse_uint(digits, G_MAXUINT32, ret);
}

/* 1: a number in *ret; 0: a name; -1: a number that no id may have (error set). */
static int parse_id(const char *text, guint64 *ret, GError **error)
{
    const char *digits = text[0] == '-' ? text + 1 : text;
    if (!*digits || digits[strspn(digits, "0123456789")])
        return 0;
    if (parse_uint(text, ID_MAX, ret))
        return 1;
    error_set(error, TARE_ERROR_INVALID, "uids and gids must be in range 0-%d", ID_MAX);
    return -1;
}

static bool in_range(guint64 id, GError **error)
{
    return id <= ID_MAX || error_set(error, TARE_ERROR_INVALID, "uids and gids must be in range 0-%d", ID_MAX);
}

static void add_group(GArray *groups, gid_t gid)
{
    for (guint i = 0; i < groups->len; i++)
        if (g_array_index(groups, gid_t, i) == gid)
            return;
    if (groups->len < USER_GROUPS_MAX)
        g_array_append_val(groups, gid);
}

/* Is name one of the comma-separated members of this group? */
static bool has_member(const struct record *group, const char *name)
{
    size_t length = strlen(name);
    if (group->n < 4)
        return false;
    const char *at = group->field[3], *end = at + group->length[3];
    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma ? comma : end;
        if ((size_t)(stop - at) == length && memcmp(at, name, length) == 0)
            return true;
        at = stop + 1;
    }
    return false;
}

static bool find_group(const char *group, const char *name, guint64 *ret)
{
    struct record record;
    guint64 gid;
    while (next_record(&group, &record))
        if (field_is(&record, 0, name) && field_id(&record, 2, &gid))
            return *ret = gid, true;
    return false;
}

struct account {
    guint64 uid, gid;
    char *name, *home; /* NULL: not in the file */
};

static bool find_account(const char *passwd, const char *name, int is_number, guint64 uid, struct account *ret)
{
    struct record record;
    guint64 each, gid;
    while (next_record(&passwd, &record)) {
        if (!field_id(&record, 2, &each) || !field_id(&record, 3, &gid))
            continue;
        if (is_number ? each != uid : !field_is(&record, 0, name))
            continue;
        ret->uid = each;
        ret->gid = gid;
        ret->name = g_strndup(record.field[0], record.length[0]);
        ret->home = record.n > 5 && record.length[5] ? g_strndup(record.field[5], record.length[5]) : NULL;
        return true;
    }
    return false;
}

static bool resolve_gid(const char *group, const char *wanted, guint64 *ret, const char *unable, GError **error)
{
    int is_number = parse_id(wanted, ret, error);
    if (is_number != 0)
        return is_number > 0;
    if (!find_group(group, wanted, ret))
        return error_set(error, TARE_ERROR_INVALID, "%s find group %s: no matching entries in group file", unable, wanted);
    return in_range(*ret, error);
}

static bool resolve(const char *passwd, const char *group, const char *user_part, const char *group_part,
                    const char *const *additional, struct account *account, GArray *groups, GError **error)
{
    guint64 gid;
    /* No user: root, with root's home from the file. */
    int is_number = *user_part ? parse_id(user_part, &account->uid, error) : 1;
    if (is_number < 0)
        return false;
    if (!find_account(passwd, user_part, is_number, account->uid, account) && !is_number)
        return error_set(error, TARE_ERROR_INVALID, "unable to find user %s: no matching entries in passwd file", user_part);
    if (!in_range(account->uid, error) || !in_range(account->gid, error))
        return false;
    if (*group_part) {
        if (!resolve_gid(group, group_part, &account->gid, "unable to", error))
            return false;
    } else if (account->name) {
        struct record record;
        for (const char *at = group; next_record(&at, &record);)
            if (has_member(&record, account->name) && field_id(&record, 2, &gid) && gid <= ID_MAX)
                add_group(groups, (gid_t)gid);
    }
    for (size_t i = 0; additional && additional[i]; i++) {
        if (!*additional[i])
            continue;
        if (!resolve_gid(group, additional[i], &gid, "Unable to", error))
            return false;
        add_group(groups, (gid_t)gid);
    }
    return true;
}

bool user_resolve_text(const char *passwd, const char *group, const char *user, const char *const *additional,
                       struct runtime_user *ret, GError **error)
{
    const char *colon = user ? strchr(user, ':') : NULL;
    g_autofree char *user_part = colon ? g_strndup(user, (gsize)(colon - user)) : g_strdup(user ? user : "");
    struct account account = { 0 };
    g_autoptr(GArray) groups = g_array_new(FALSE, FALSE, sizeof(gid_t));
    bool ok = resolve(passwd, group, user_part, colon ? colon + 1 : "", additional, &account, groups, error);
    if (ok) {
        ret->uid = (uid_t)account.uid;
        ret->gid = (gid_t)account.gid;
        ret->groups = g_steal_pointer(&groups);
        ret->home = account.home ? g_steal_pointer(&account.home) : g_strdup("/");
    }
    g_free(account.name);
    g_free(account.home);
    return ok;
}

/* A missing file is an empty one. NULL and error where it is there and cannot be trusted. */
static char *read_accounts(int root_fd, const char *path, GError **error)
{
    char *text = NULL;
    ssize_t length = root_read_file(root_fd, path, USER_FILE_MAX, &text);
    if (length < 0 && (errno == ENOENT || errno == ENOTDIR))
        return g_strdup("");
    if (length < 0) {
        if (errno == EINVAL)
            error_set(error, TARE_ERROR_INVALID, "%s: not a regular file", path);
        else
            error_set_errno(error, errno, "open %s", path);
        return NULL;
    }
    char *copy = g_strndup(text, (gsize)length); /* stops at a NUL byte */
    free(text);
    return copy;
}

bool runtime_resolve_user(int root_fd, const char *user, const char *const *additional, struct runtime_user *ret, GError **error)
{
    g_autofree char *passwd = read_accounts(root_fd, "/etc/passwd", error);
    g_autofree char *group = passwd ? read_accounts(root_fd, "/etc/group", error) : NULL;
    return group && user_resolve_text(passwd, group, user, additional, ret, error);
}

void runtime_user_clear(struct runtime_user *user)
{
    g_clear_pointer(&user->groups, g_array_unref);
    g_clear_pointer(&user->home, g_free);
}
