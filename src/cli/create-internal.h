/* The parts of a create request that have a grammar of their own. Pure but for key-value files and the seccomp profile, which are
 * read. */
#pragma once

#include "cli/cli-internal.h"

/* [ip:][host port[-end]]:port[-end][/proto], or published=,target=,protocol=: adds to both objects of the API. */
bool create_parse_port(const char *text, json_t *exposed, json_t *bindings, GError **error);
bool create_parse_expose(const char *text, json_t *exposed, GError **error);
json_t *create_parse_mount(const char *text, GError **error);
json_t *create_parse_ulimit(const char *text);
json_t *create_parse_device(const char *text, GError **error);
json_t *create_parse_gpus(const char *text, GError **error);
/* NAME, or name=…,alias=…: *ret_name is what NetworkMode is; the endpoint's settings, empty where nothing was said. */
json_t *create_parse_network(const char *text, char **ret_name, GError **error);
/* Adds KEY=VALUE of a file's lines, then those given; look_up: a bare KEY takes its value from the environment. */
bool create_read_pairs(const char *const *files, const char *const *given, bool look_up, json_t *array, const char *what,
                       GError **error);
json_t *create_parse_throttle(const char *text, bool is_bytes);
/* A volume that is a bind keeps its text (relative sources made absolute); an anonymous one gives *ret_target. */
bool create_parse_volume(const char *text, char **ret_bind, char **ret_target, GError **error);
json_t *create_parse_security(const char *const *given, bool *ret_unmasked, GError **error);
/* The whole body. */
json_t *create_body(struct cli *cli, const struct options *options, GError **error);
