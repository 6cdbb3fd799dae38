/* Mounted layers: one backend for each mount mode behind one cache (docs/ARCHITECTURE.md, section 1). For the files of this
 * directory. */
#pragma once

#include "layer/layer-internal.h"

/* What is mounted: an index and the tars that it points into. Layers have their diff id's digits as key, fix-ups "fix-" and the
 * chain id's. */
struct mount_source {
    const char *key;
    char *index;    /* absolute path */
    char **devices; /* absolute paths, NULL-terminated */
};
void mount_source_clear(struct mount_source *source);

/* One mounted layer. */
struct layer_mount {
    char *key;
    int fd;     /* the mount, or the directory; -1 while it is being made */
    char *path; /* where the mode has one */
    int references;
    bool has_facts, root_is_opaque; /* of a layer */
    bool failed;                    /* could not be made; goes away with those who waited for it */
    bool forgotten;                 /* its layer was removed: goes away with its last holder */
    guint64 used_at;
};

/* The state of one backend. */
struct mount_backend {
    const struct mount_operations *operations;
    struct layer_store *store;
    int namespace;   /* that holds attached mounts; -1 */
    char *directory; /* where they, or unpacked layers, are */
};

struct mount_operations {
    enum layer_mount_mode mode;
    const char *name; /* in the verdict and in errors */
    bool has_paths;   /* overlay takes this mode's layers by path */
    bool (*open)(struct mount_backend *backend, GError **error);
    bool (*mount)(struct mount_backend *backend, const struct mount_source *source, struct layer_mount *mount, GError **error);
    void (*unmount)(struct mount_backend *backend, struct layer_mount *mount);
    /* The layer is gone for good: removes what unmount leaves for the next time. */
    bool (*discard)(struct mount_backend *backend, const char *key, GError **error);
    /* An empty directory, for chains without layers and for read-only mounts of one layer. */
    bool (*empty)(struct mount_backend *backend, struct layer_mount *mount, GError **error);
};

/* Best first, as AUTO tries them. */
extern const struct mount_operations *const mount_all_operations[4];

bool mount_backend_open(struct layer_store *store, const struct mount_operations *operations, struct mount_backend **ret,
                        GError **error);
void mount_backend_close(struct mount_backend *backend);
/* overlay_mount where this backend's paths mean something. */
int mount_backend_overlay(struct mount_backend *backend, const struct overlay_options *options, GError **error);

/* False and an error from errno, with the reason from the mount context's own log ("e overlay: …", one message a read) where it
 * has one. */
bool mount_fail_with_log(int fs, const char *what, GError **error);
/* A detached EROFS mount, or -1; source and devices are files or block devices. label: SELinux context of all files, or NULL. */
int mount_erofs(const char *index, const char *const *devices, const char *label, GError **error);
/* A detached empty tmpfs, or -1. */
int mount_empty(GError **error);

/* Tests only: mount overlays by mount(2), as before Linux 6.7. */
extern bool overlay_force_old_mount;

/* ---- mount_namespace.c ---- */
typedef bool (*namespace_func)(void *user, GError **error);
/* A mount namespace of our own, slave of the present one, with a tmpfs at directory; its fd or -1. */
int mount_namespace_new(const char *directory, GError **error);
/* Runs function in a thread of its own inside the namespace. */
bool mount_namespace_run(int namespace, namespace_func function, void *user, GError **error);

/* ---- stack.c ---- */
bool layer_mounts_open(struct layer_store *store, const struct layer_store_options *options, GError **error);
void layer_mounts_close(struct layer_store *store);
/* Unmounts where nobody holds it, else when the last holder lets go. */
bool layer_mounts_forget(struct layer_store *store, const char *key, GError **error);

/* ---- chain.c ---- */
/* The files of a chain's fix-up index, where there is one; *ret_key is what ret->key points to. */
bool layer_fixup_source(struct layer_store *store, const char *const *diff_ids, char **ret_key, struct mount_source *ret,
                        bool *ret_found, GError **error);

/* ---- probe.c ---- */
/* The first mode that works (or the one asked for), and the verdict. */
struct mount_backend *layer_probe(struct layer_store *store, const struct layer_store_options *options, char **ret_verdict,
                                  GError **error);
