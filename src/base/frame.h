/* Length-prefixed frames over a unix stream socket: a 4-byte little-endian length, then so many bytes of JSON, with fds on the
 * first byte. End of file inside a frame is an error; before one it is *ret_value NULL and success. */
#pragma once

#include "base/error.h"
#include "base/json.h"

#define FRAME_MAX (16u << 20)

/* Sends a frame; fds stay the caller's. */
bool frame_send(int socket, const json_t *value, const int *fds, size_t n_fds, GError **error);

/* Receives one frame, blocking. fds has room for *n_fds, count on return, the caller's to close (all closed on error). */
bool frame_receive(int socket, json_t **ret_value, int *fds, size_t *n_fds, GError **error);

/* Incremental form for event loops: feed received bytes, take whole frames out. The length is checked when its fourth byte
 * arrives. */
struct frame_parser {
    GByteArray *pending;
};
void frame_parser_init(struct frame_parser *parser);
void frame_parser_clear(struct frame_parser *parser);
bool frame_parser_feed(struct frame_parser *parser, const void *data, size_t length, GError **error);
/* 1 and a value (new reference), 0 for "not whole yet", -1 and error. */
int frame_parser_take(struct frame_parser *parser, json_t **ret_value, GError **error);
