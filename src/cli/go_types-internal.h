/* The tables behind go_types.c. Both end with an entry without name. */
#pragma once

struct go_struct {
    const char *name, *fields;
};
struct go_name { /* types that have a name of their own and are no structures */
    const char *name, *type;
};
extern const struct go_struct go_structs[];
extern const struct go_name go_names[];
