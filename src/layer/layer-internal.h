/* The layer store's own types, for the files of this directory. */
#pragma once

#include "base/digest.h"
#include "base/spawn.h"
#include "layer/erofs.h"
#include "layer/layer.h"
#include "layer/worker.h"

struct mount_cache;

struct layer_store {
    char *data_root;      /* absolute */
    char *directory;      /* <data root>/layers/sha256 */
    char *fixups;         /* <data root>/layers/fixups */
    int fd;               /* of directory */
    char *ingest_program; /* NULL: to be found beside us at the first use */
    guint64 max_layer_bytes;
    gint64 stall_us;    /* a worker that does nothing for so long is ended */
    char *label;        /* SELinux context of all files, or NULL */
    bool is_left_whole; /* when it was opened */
    enum layer_mount_mode mode;
    char *verdict;
    GMutex publish; /* renames of finished layers */
    struct mount_cache *mounts;
    struct release *release;
    GThread *cleaner; /* removes what the probe left; NULL */
    GThread *sweeper; /* removes what another backend left; NULL */
};

/* ---- store.c: file names ---- */
#define LAYER_NAME_ROOM 80
enum layer_file { LAYER_FILE_TAR, LAYER_FILE_INDEX, LAYER_FILE_FACTS, LAYER_FILE_DAMAGED /* empty: a mark */ };
/* "<hex>.tar", ".erofs", ".facts", ".damaged"; the diff id is valid. */
void layer_file_name(const char *diff_id, enum layer_file kind, char ret[LAYER_NAME_ROOM]);
/* TARE_ERROR_INVALID for what is no digest: nothing else may become a path. */
bool layer_check_diff_id(const char *diff_id, GError **error);
int layer_open_file(struct layer_store *store, const char *diff_id, enum layer_file kind, GError **error);

/* ---- release.c: space of removed files, given back behind the answer ---- */
struct release *release_new(void);
/* Removes dirfd/name, whose name is gone at once; the blocks of a large file are freed by a thread. -1 with errno. Any thread. */
int release_unlink(struct release *release, int dirfd, const char *name);
/* Until all that was removed is free; NULL: nothing was. */
void release_wait(struct release *release);
void release_free(struct release *release);

/* ---- intake.c: the tar of a layer to be, in a temporary file, hashed on the way ---- */
struct intake;
typedef struct intake intake_holder;
struct intake *intake_new(struct layer_store *store, guint64 max_bytes, GError **error);
/* Where the next bytes may be put, and how many fit; then intake_advance says how many came. */
void *intake_room(struct intake *intake, gsize *ret_room);
bool intake_advance(struct intake *intake, gsize length, GError **error);
bool intake_write(struct intake *intake, const void *data, gsize length, GError **error);
/* All bytes are in the file; their digest. */
bool intake_finish(struct intake *intake, char ret_diff_id[DIGEST_ROOM], GError **error);
int intake_fd(const struct intake *intake);
const char *intake_temporary(const struct intake *intake);
guint64 intake_size(const struct intake *intake);
/* Renames the file; intake_free leaves it then. */
/* Closes the file, which keeps its temporary name: many may wait. Only after intake_finish. */
void intake_park(struct intake *intake);
/* Opens it again for reading; the caller's. */
int intake_open(const struct intake *intake, GError **error);
bool intake_publish(struct intake *intake, const char *name, GError **error);
void intake_free(struct intake *intake);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(intake_holder, intake_free)

/* ---- worker.c: starting and ending tare-ingest ---- */
struct worker {
    pid_t pid; /* 0: none */
    int report;
    const char *who; /* for errors */
};
#define WORKER_NONE ((struct worker){ .pid = 0, .report = -1 })
/* fds without the report pipe, which this adds. */
bool worker_start(struct layer_store *store, const char *const *arguments, const struct spawn_fd *fds, size_t n_fds,
                  const char *who, struct worker *ret, GError **error);
/* Its report, and its end. */
bool worker_finish(struct worker *worker, struct cancel *cancel, int timeout_ms, guint64 ret_values[WORKER_REPORT_VALUES],
                   GError **error);
/* Kills without reaping: from another thread, while the owner has not yet called worker_finish or worker_clear. */
void worker_kill(const struct worker *worker);
/* Kills and reaps what is still there. */
void worker_clear(struct worker *worker);

/* ---- decoder.c: a decoder process between a source and an intake or a sink ---- */
struct decoder_run {
    struct layer_store *store;
    gssize (*read)(void *user, void *buffer, gsize length, GError **error); /* the compressed bytes */
    void *user;
    struct intake *intake; /* one of these takes the result */
    struct byte_sink *sink;
    guint64 max_bytes;
    struct cancel *cancel;
};
bool decoder_run(const struct decoder_run *run, GError **error);

/* ---- publish.c: a finished tar becomes a layer ---- */
enum layer_kind { LAYER_KIND_LAYER, LAYER_KIND_TREE /* whiteouts mean nothing */ };
bool layer_publish(struct layer_store *store, struct intake *intake, const char *diff_id, enum layer_kind kind,
                   const struct layer_claim *claim, struct cancel *cancel, struct layer_info *ret, GError **error);
/* What is kept beside the index. facts may be NULL where nobody asks; *ret_facts is NULL where there are none. */
bool layer_read_sidecar(struct layer_store *store, const char *diff_id, guint64 *ret_content_bytes,
                        struct layer_facts **ret_facts, GError **error);
