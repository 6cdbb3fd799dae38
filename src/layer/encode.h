/* Compressing a layer's tar for a registry: on all processors, and always into the same bytes, so that a layer that was sent once
 * is known again by its digest.
 *
 * The tar is cut into pieces of a fixed size, which are compressed apart (each knows the last 32 KiB of the one before) and put
 * together to one gzip member (RFC 1952), or to one zstd frame a piece (RFC 8878). */
#pragma once

#include "base/cancel.h"
#include "base/stream.h"

enum layer_encoding { LAYER_ENCODING_GZIP, LAYER_ENCODING_ZSTD };

/* The threads, shared by as many encoders as there are; free it after them. */
struct layer_encoder_pool;
struct layer_encoder_pool *layer_encoder_pool_new(void);
void layer_encoder_pool_free(struct layer_encoder_pool *pool);

/* size bytes of tar_fd (from its beginning, by pread; the fd stays the caller's). Memory: about 1 MiB for each of three pieces
 * under way. */
struct layer_encoder;
struct layer_encoder *layer_encoder_new(struct layer_encoder_pool *pool, int tar_fd, guint64 size, enum layer_encoding encoding,
                                        struct cancel *cancel);
struct byte_source *layer_encoder_source(struct layer_encoder *encoder);
/* How much of the tar has been given out in compressed form. */
guint64 layer_encoder_consumed(const struct layer_encoder *encoder);
void layer_encoder_free(struct layer_encoder *encoder);
