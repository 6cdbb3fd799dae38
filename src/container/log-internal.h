/* Reading a container's json-file log. */
#pragma once

#include <glib.h>
#include <stdbool.h>

struct log_entry {
    GString *line;       /* with its newline, where it has one */
    GString *attributes; /* "k=v,k2=v2", or empty */
    int stream;          /* 1 or 2 */
    gint64 time_ns;
};
void log_entry_init(struct log_entry *entry);
void log_entry_clear(struct log_entry *entry);
/* text: one line of the file without its newline. False where it is none; the entry is then undefined. */
bool log_entry_parse(const char *text, size_t length, struct log_entry *entry);
