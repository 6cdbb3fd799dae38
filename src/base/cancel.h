/* A request's cancellation: set once, from any thread, when its client goes away or the engine stops. Waiters poll its fd. NULL
 * means "never" everywhere. */
#pragma once

#include "base/error.h"

struct cancel;
struct cancel *cancel_new(void);
struct cancel *cancel_ref(struct cancel *cancel);
void cancel_unref(struct cancel *cancel);
void cancel_trigger(struct cancel *cancel);
bool cancel_is_set(const struct cancel *cancel);
/* Readable once set; -1 for NULL. Owned by the cancel. */
int cancel_fd(const struct cancel *cancel);
/* False and TARE_ERROR_CANCELLED once set: for loops. */
bool cancel_check(const struct cancel *cancel, GError **error);
/* Waits until fd has one of the poll(2) events or the cancel is set or timeout_ms (-1: none) passed. 1 ready, 0 timeout, -1 error
 * (CANCELLED or errno). */
int cancel_poll(const struct cancel *cancel, int fd, short events, int timeout_ms, GError **error);
