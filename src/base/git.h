/* Contexts in git repositories: URL#ref:subdir, cloned by the git program with nothing of the repository executed. */
#pragma once

#include "base/cancel.h"

struct git_source {
    char *url;    /* what git is given */
    char *ref;    /* a branch, tag, commit or any other ref; NULL: the remote's HEAD */
    char *subdir; /* clean, relative, without ".."; NULL: the root */
};
/* Whether text is meant as a repository: git://, ssh://, git@HOST:…, github.com/…, http(s)://….git */
bool git_is_source(const char *text);
/* INVALID for what no git may be given: options in disguise, subdirectories outside. */
bool git_source_parse(const char *text, struct git_source *ret, GError **error);
void git_source_clear(struct git_source *source);

struct git_clone_options {
    bool keep_git_directory;  /* .git stays (BuildKit leaves it out, and so do we) */
    bool inherit_environment; /* a user's own ssh agent and configuration: for the command, not the engine */
    struct cancel *cancel;
    char **ret_commit; /* what was checked out, g_free; or NULL */
};
/* Into directory, which is empty and stays the caller's: the tree at ref, with its submodules. */
bool git_clone(const struct git_source *source, const char *directory, const struct git_clone_options *options, GError **error);
