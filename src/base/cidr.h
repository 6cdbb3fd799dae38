/* Addresses of both families and their networks, as settings name them. Pure. */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* As 16 bytes; IPv4 is mapped (::ffff:…). */
bool address_parse(const char *text, guint8 ret[16]);
bool address_is_loopback(const guint8 address[16]);
/* "10.0.0.0/8", "fd00::/8". *ret_bits counts from the beginning of the 16 bytes. */
bool cidr_parse(const char *text, guint8 ret_address[16], unsigned *ret_bits);
/* False also where cidr is none. */
bool cidr_has(const char *cidr, const guint8 address[16]);
