/* Volumes, named and anonymous, of the driver "local": records in the database, data in <data-root>/volumes/<name>/_data.
 * Thread-safe.
 *
 * Who uses a volume is recorded with it, so that one in use is never removed. Requests and answers are the Engine API's objects.
 */
#pragma once

#include "base/database.h"
#include "base/event.h"
#include "base/json.h"

struct volume_manager;

bool volume_manager_open(struct database *database, const char *data_root, const struct event_sink *events,
                         struct volume_manager **ret, GError **error);
void volume_manager_close(struct volume_manager *manager);

/* ---- the API's requests ---- */
/* body: POST /volumes/create's {"Name","Driver","DriverOpts","Labels"} → the volume. One of that name which exists is success. */
bool volume_create(struct volume_manager *manager, const json_t *body, json_t **ret, GError **error);
/* NOT_FOUND 'get X: no such volume'. */
bool volume_inspect(struct volume_manager *manager, const char *name, json_t **ret, GError **error);
/* → {"Volumes": […], "Warnings": null}; filters: dangling, driver, label, name. */
bool volume_list(struct volume_manager *manager, const json_t *filters, json_t **ret, GError **error);
/* {"Size": bytes on disk, "RefCount": containers}, as /system/df shows it with each volume. */
bool volume_usage(struct volume_manager *manager, const char *name, json_t **ret, GError **error);
/* CONFLICT 'remove X: volume is in use - [IDs]'; force: an absent one is success. */
bool volume_remove(struct volume_manager *manager, const char *name, bool force, GError **error);
/* → {"VolumesDeleted": […], "SpaceReclaimed": n}; from API 1.42 on only anonymous ones, unless the filter all is true. */
bool volume_prune(struct volume_manager *manager, const json_t *filters, unsigned api_version, json_t **ret, GError **error);

/* ---- the containers' side ---- */
struct volume_request {
    const char *name;      /* NULL: an anonymous one is made */
    const char *driver;    /* NULL or "": local */
    const json_t *options; /* or NULL */
    const json_t *labels;  /* or NULL */
    const char *container; /* id of the user */
};
struct volume_place {
    char *name;
    char *path;   /* of the data, on the host */
    bool created; /* by this call */
};
void volume_place_clear(struct volume_place *place);
/* Makes the volume where it is missing and records the use. */
bool volume_acquire(struct volume_manager *manager, const struct volume_request *request, struct volume_place *ret,
                    GError **error);
/* The container is gone: its uses are forgotten, and its anonymous volumes removed too where nothing else uses them. */
bool volume_release(struct volume_manager *manager, const char *container, bool remove_anonymous, GError **error);
/* Once at the start, with no other call: what a dead engine left half-made or half-removed. Uses by containers that are none are
 * forgotten, with their anonymous volumes. */
bool volume_sweep(struct volume_manager *manager, bool (*is_user)(void *user, const char *container), void *user, GError **error);
