/* Signals as users write them: "KILL", "SIGKILL", "kill", "9", "RTMIN+3". */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* What moby's table has: RTMIN is 34 and RTMAX 64 in every container, whatever the C library here reserves. */
#define SIGNAL_RTMIN 34
#define SIGNAL_RTMAX 64

/* False for an unknown name, 0 and what is no number. A number is not held against a maximum: that is for who sends it. */
bool signal_name_parse(const char *text, int *ret);
