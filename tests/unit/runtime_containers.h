/* What the tests that run real containers share: a root of static busybox, Docker's specification, and running it with its output
 * caught. */
#pragma once

#include "runtime/runtime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

struct container_result {
    char *output;  /* stdout and stderr */
    int code;      /* exit code, 128 + signal, -1: was not started */
    char *message; /* of the error */
};

/* A new root directory, made once per test program, and its removal. */
int containers_setup(void **state);
int containers_teardown(void **state);
const char *containers_root(void);
/* Docker's default specification for the root, running `sh -c script`; the caller changes it as it likes. */
json_t *containers_spec(const char *script);
/* Runs it to its end; every resource is given back. The result is cleared by containers_clear. */
void containers_run(const json_t *spec, struct container_result *ret);
void containers_run_with(const json_t *spec, struct runtime_create_options *options, struct container_result *ret);
void containers_clear(struct container_result *result);
/* Creates and starts in the background with output to the pipe's read end *ret_output. */
struct runtime_container *containers_start(const json_t *spec, int *ret_output);
/* Reaps pidfd: exit code or 128 + signal. */
int containers_wait(int pidfd);
char *containers_read(int fd);
/* Fails the test where a cgroup of ours is left. */
void containers_assert_no_cgroup(void);
