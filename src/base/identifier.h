/* Random identifiers: 64 hexadecimal digits for containers and the like, and two-word names for people. */
#pragma once

#include "base/error.h"

#define IDENTIFIER_LENGTH 64
#define IDENTIFIER_SHORT 12 /* what people see */

/* From getrandom(2). As Docker, never one whose first 12 digits are all decimal. */
void identifier_new(char ret[IDENTIFIER_LENGTH + 1]);
/* "modest_hopper"; attempt > 0 adds a digit. g_free. */
char *identifier_new_name(int attempt);
/* [a-zA-Z0-9][a-zA-Z0-9_.-]+, as Docker's container and volume names. */
bool identifier_is_name(const char *text);
