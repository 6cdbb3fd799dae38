/* The Engine API over HTTP: everything that a client can ask of an engine. */
#pragma once

#include "engine/engine.h"

struct api_server;
/* Binds the sockets that the options name (unix sockets 0660 with the engine's group; TCP only with verified clients unless
 * --tls=false says otherwise). */
bool api_server_open(struct engine *engine, struct api_server **ret, GError **error);
/* Serves until stop_fd is readable. *ret_idle: no request is left running, so that the engine may be closed. */
bool api_server_run(struct api_server *server, int stop_fd, bool *ret_idle, GError **error);
/* Removes the sockets' files. */
void api_server_close(struct api_server *server);
