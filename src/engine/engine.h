/* The daemon's heart: its options, its stores and managers, its events. src/api serves it, src/bin/tared.c runs it. */
#pragma once

#include "base/cancel.h"
#include "base/database.h"
#include "base/event.h"
#include "base/json.h"
#include "build/build.h"
#include "container/container.h"
#include "image/image.h"
#include "layer/layer.h"
#include "network/network.h"
#include "registry/registry.h"
#include "volume/volume.h"

#define ENGINE_DEFAULT_DATA_ROOT "/var/lib/tare"
#define ENGINE_DEFAULT_RUN_ROOT "/run/tare"
#define ENGINE_DEFAULT_CONFIG "/etc/tare/daemon.json"
#define ENGINE_API_VERSION 51 /* 1.51 */
#define ENGINE_API_VERSION_MIN 24

/* ---- options: dockerd's names, from the command line and from a JSON file ---- */
struct engine_options {
    char *data_root, *run_root, *config_file, *pidfile, *group, *log_level;
    char **hosts;
    bool debug, help, version, no_openat2, validate, verify_images, experimental, selinux;
    bool tls, tls_verify;
    char *tls_ca, *tls_certificate, *tls_key;
    char *bip, *bridge;
    char **dns, **dns_options, **dns_search;
    char **default_ulimits; /* "nofile=1024:2048" */
    char *default_shm_size, *log_driver, *default_runtime, *cgroup_parent, *init_path, *shim_path, *ingest_path;
    char **log_options; /* "max-size=10m" */
    char **labels, **registry_mirrors, **insecure_registries, **registry_config_paths;
    guint64 max_concurrent_downloads, max_concurrent_uploads, max_download_attempts, registry_timeout,
        ingest_timeout; /* 0: the default */
    char *storage_backend, *max_layer_size;
    char *http_proxy, *https_proxy, *no_proxy;
    guint64 given; /* bit i: table entry i was on the command line */
    bool tls_off;  /* --tls=false or --tlsverify=false was said: TCP without TLS is wanted */
};
/* Errors are texts for stderr; the file is read afterwards by engine_options_load. */
bool engine_options_parse(struct engine_options *options, int argc, char **argv, GError **error);
/* Reads the configuration file (a missing default file is no error), refuses unknown keys and what is also on the command line,
 * fills defaults, checks values. */
bool engine_options_load(struct engine_options *options, GError **error);
/* The same from text. */
bool engine_options_apply_json(struct engine_options *options, const char *text, size_t length, const char *file, GError **error);
void engine_options_clear(struct engine_options *options);
/* The text of --help; g_free. */
char *engine_options_help(void);

/* "nofile=1024:2048", "nofile=1024". */
struct engine_limit {
    char *name;
    gint64 soft, hard;
};
bool engine_limit_parse(const char *text, struct engine_limit *ret, GError **error);

/* ---- events ---- */
struct event_bus;
struct event_bus *event_bus_new(void);
void event_bus_free(struct event_bus *bus);
struct event_sink event_bus_sink(struct event_bus *bus);
/* The API's object of an event, with the members that are older than 1.22 ("status", "id", "from"). */
struct event_subscription;
/* filters: as container_list's. since_ns (0: none): what the history holds from then on comes first. */
struct event_subscription *event_bus_subscribe(struct event_bus *bus, const json_t *filters, gint64 since_ns, gint64 until_ns);
void event_subscription_free(struct event_subscription *subscription);
/* Waits for the next one: 1 and a new reference, 0 when until passed, -1 and an error (CANCELLED, or the reader fell too far
 * behind). timeout by until alone. */
int event_subscription_next(struct event_subscription *subscription, struct cancel *cancel, json_t **ret, GError **error);
gint event_bus_listeners(struct event_bus *bus);

/* ---- the engine ---- */
struct engine {
    const struct engine_options *options;
    char *id; /* stable for a data root */
    gint64 started_ns;
    int lock_fd;
    struct event_bus *events;
    struct event_sink sink;
    struct database *database;
    struct layer_store *layers;
    struct image_store *images;
    struct volume_manager *volumes;
    struct network_manager *networks;
    struct network_start *network_start; /* until it is up */
    struct container_manager *containers;
    struct registry *registry;
    struct builder *builder;
    char *bridge, *table, *cgroup_parent; /* derived from the data root where that is not the default */
    bool is_left_whole;                   /* the last engine was closed in order, since the machine came up */
    bool is_open;                         /* all of it */
};
bool engine_open(const struct engine_options *options, struct engine **ret, GError **error);
/* Containers run on. */
void engine_close(struct engine *engine);
