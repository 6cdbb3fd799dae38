/* Image references: [host[:port]/]path[:tag][@digest], the grammar and texts of distribution/reference, with Docker Hub's
 * defaults. */
#pragma once

#include "base/error.h"

struct reference {
    char *domain; /* "docker.io", "localhost:5000" */
    char *path;   /* "library/debian" */
    char *tag;    /* NULL where none was given */
    char *digest; /* NULL where none was given */
};
void reference_clear(struct reference *reference);

/* Errors: 'invalid reference format', 'invalid reference format: repository name (library/X) must be lowercase', 'invalid tag
 * format', … (code INVALID). */
bool reference_parse(const char *text, struct reference *ret, GError **error);
/* As people see it: "debian", "user/app", "localhost:5000/app": without docker.io and library/. g_free. */
char *reference_familiar_name(const struct reference *reference);
/* "debian:12", "debian@sha256:…": the familiar name with tag and digest as given. g_free. */
char *reference_familiar(const struct reference *reference);
/* The same of a text; what is no reference (an id) stays as it is. g_free. */
char *reference_familiar_text(const char *text);
/* "docker.io/library/debian:12". g_free. */
char *reference_canonical(const struct reference *reference);
/* Sets tag "latest" where neither tag nor digest was given; true when it did. */
bool reference_default_tag(struct reference *reference);
/* All of the text is hexadecimal digits, at most 64, with or without "sha256:": could be an image id. */
bool reference_may_be_id(const char *text);
