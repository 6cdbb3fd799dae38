/* image ls --tree: each image with the platforms that the engine keeps of it. As docker draws it, colours included. */
#include "cli/cli-internal.h"

#include "base/size.h"

#include <string.h>
#include <unistd.h>

#define SPACING 3
#define NAME_MIN 12

struct tree {
    GString *out;
    bool colour;     /* stdout is a terminal */
    bool any_in_use; /* of the platforms: then there is a mark for it */
    bool has_platforms;
    guint terminal, name_width, n_columns;
};

struct details {
    const char *id;
    char *disk, *content;
    bool in_use;
};

static const struct column {
    const char *title;
    guint width;
    bool right;
} columns[] = {
    { "IMAGE", 0, false }, { "ID", 12, false }, { "DISK USAGE", 10, true }, { "CONTENT SIZE", 12, true }, { "EXTRA", 5, false }
};

#define PLAIN ""
#define NORMAL "\033[39m"
#define FAINT "\033[39m\033[2m"
#define TITLE "\033[39m\033[1m"
#define NAME "\033[34m\033[1m"

static void append_coloured(GString *out, const char *colour, const char *text)
{
    g_string_append_printf(out, "%s%s%s", colour, text, *colour ? "\033[0m" : "");
}

static void append_cell(struct tree *tree, guint column, const char *colour, const char *text)
{
    guint width = column ? columns[column].width : tree->name_width, length = text_width(text);
    if (length > width) {
        g_autofree char *cut = text_ellipsis(text, width);
        append_coloured(tree->out, colour, cut);
        return;
    }
    if (columns[column].right)
        g_string_append_printf(tree->out, "%*s", (int)(width - length), "");
    append_coloured(tree->out, colour, text);
    if (!columns[column].right)
        g_string_append_printf(tree->out, "%*s", (int)(width - length), "");
}

static void append_details(struct tree *tree, const char *colour, const struct details *details)
{
    char room[13];
    const char *mark = !tree->any_in_use ? "" : details->in_use ? "U" : " ";
    const char *const texts[] = { NULL, short_id(details->id, room), details->disk, details->content, mark };
    for (guint column = 1; column < tree->n_columns; column++) {
        bool is_chip = column == 4 && tree->colour && tree->any_in_use;
        g_string_append_printf(tree->out, "%*s", SPACING, "");
        if (is_chip && details->in_use)
            g_string_append(tree->out, "\033[38;5;0m\033[48;5;14m U \033[0m  ");
        else
            append_cell(tree, column, column == 4 ? PLAIN : colour, texts[column]);
    }
}

static gint longest_first(gconstpointer a, gconstpointer b)
{
    gsize x = strlen(*(const char *const *)a), y = strlen(*(const char *const *)b);
    return (x < y) - (x > y);
}

static GPtrArray *names_of(const json_t *image)
{
    GPtrArray *names = g_ptr_array_new();
    size_t i;
    json_t *name;
    json_array_foreach(json_get_array(image, "RepoTags"), i, name) if (strcmp(json_string_value(name), "<none>:<none>") != 0)
        g_ptr_array_add(names, (gpointer)json_string_value(name));
    g_ptr_array_sort(names, longest_first);
    return names;
}

static void append_names(struct tree *tree, const json_t *image)
{
    g_autoptr(GPtrArray) names = names_of(image);
    const char *colour = tree->colour ? NAME : PLAIN;
    if (names->len == 0)
        append_cell(tree, 0, tree->colour ? FAINT : PLAIN, "<untagged>");
    for (guint i = 0; i + 1 < names->len; i++) {
        g_autofree char *cut = text_ellipsis(names->pdata[i], tree->terminal ? tree->terminal : G_MAXUINT);
        append_coloured(tree->out, colour, tree->terminal ? cut : names->pdata[i]);
        g_string_append_c(tree->out, '\n');
    }
    if (names->len > 0)
        append_cell(tree, 0, colour, names->pdata[names->len - 1]);
}

static char *platform_text(const json_t *manifest)
{
    const json_t *platform = json_get_object(json_get_object(manifest, "ImageData"), "Platform");
    const char *variant = json_get_string(platform, "variant", "");
    return g_strconcat(json_get_string(platform, "os", ""), "/", json_get_string(platform, "architecture", ""),
                       *variant ? "/" : "", variant, NULL);
}

static bool is_platform(const json_t *manifest)
{
    return strcmp(json_get_string(manifest, "Kind", ""), "image") == 0;
}

static bool is_in_use(const json_t *manifest)
{
    return json_array_size(json_get_array(json_get_object(manifest, "ImageData"), "Containers")) > 0;
}

static void append_platforms(struct tree *tree, const json_t *image)
{
    const json_t *manifests = json_get_array(image, "Manifests");
    size_t last = 0, i;
    json_t *manifest;
    json_array_foreach((json_t *)manifests, i, manifest) last = is_platform(manifest) ? i : last;
    json_array_foreach((json_t *)manifests, i, manifest)
    {
        if (!is_platform(manifest))
            continue;
        const json_t *size = json_get_object(manifest, "Size");
        g_autofree char *platform = platform_text(manifest), *text = g_strconcat(i == last ? "└─ " : "├─ ", platform, NULL);
        g_autofree char *disk = bytes_text(json_get_int(size, "Total", 0)),
                        *content = bytes_text(json_get_int(size, "Content", 0));
        const char *colour = !tree->colour ? PLAIN : json_get_bool(manifest, "Available", false) ? NORMAL : FAINT;
        struct details details = { json_get_string(manifest, "ID", ""), disk, content, is_in_use(manifest) };
        append_cell(tree, 0, colour, text);
        append_details(tree, colour, &details);
        g_string_append_c(tree->out, '\n');
    }
}

static void append_image(struct tree *tree, const json_t *image)
{
    gint64 content_bytes = 0;
    bool in_use = json_get_int(image, "Containers", 0) > 0;
    size_t i;
    json_t *manifest;
    json_array_foreach(json_get_array(image, "Manifests"), i, manifest)
    {
        content_bytes += json_get_int(json_get_object(manifest, "Size"), "Content", 0);
        in_use = in_use || (is_platform(manifest) && is_in_use(manifest));
    }
    g_autofree char *disk = bytes_text(json_get_int(image, "Size", 0)), *content = bytes_text(content_bytes);
    struct details details = { json_get_string(image, "Id", ""), disk, content, in_use };
    append_names(tree, image);
    append_details(tree, tree->colour ? NORMAL : PLAIN, &details);
    g_string_append(tree->out, tree->has_platforms ? "\n" : "");
    append_platforms(tree, image);
    g_string_append_c(tree->out, '\n');
}

/* The first column is as narrow as its widest text and the terminal allow; columns that leave it too little are left out. */
static void lay_out(struct tree *tree, const json_t *images, guint width)
{
    gint left = (gint)width;
    guint widest = (guint)strlen("Image");
    size_t i, k;
    json_t *image, *entry;
    tree->n_columns = G_N_ELEMENTS(columns);
    for (guint column = 1; column < G_N_ELEMENTS(columns); column++) {
        gint taken = (gint)columns[column].width + SPACING;
        if (left - taken < NAME_MIN) {
            tree->n_columns = column;
            break;
        }
        left -= taken;
    }
    json_array_foreach((json_t *)images, i, image)
    {
        json_array_foreach(json_get_array(image, "RepoTags"), k, entry) widest = MAX(widest, (guint)json_string_length(entry));
        json_array_foreach(json_get_array(image, "Manifests"), k, entry)
        {
            g_autofree char *platform = platform_text(entry);
            widest = is_platform(entry) ? MAX(widest, (guint)(strlen(platform) + strlen("└─ "))) : widest;
            tree->has_platforms = tree->has_platforms || is_platform(entry);
            tree->any_in_use = tree->any_in_use || (is_platform(entry) && is_in_use(entry));
        }
    }
    tree->name_width = MIN((guint)MAX(left, 0), widest);
}

static void append_head(struct tree *tree, guint width)
{
    static const char warning[] = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.";
    static const char coloured[] = "\033[1m\033[106m\033[30mi\033[0m\033[0m \033[96mInfo → \033[0m\033[0m "
                                   "\033[38;5;0m\033[48;5;14m U \033[0m In Use ";
    const char *legend = tree->colour ? coloured : " Info ->  U In Use ";
    guint length = tree->colour ? (guint)strlen("i Info > ") + (guint)strlen("  U  In Use ") : (guint)strlen(legend);
    append_coloured(tree->out, tree->colour ? "\033[93m" : PLAIN, warning);
    g_string_append_printf(tree->out, "\n%*s%s\n\n", length < width ? (int)(width - length) : 0, "", legend);
    for (guint column = 0; column < tree->n_columns; column++) {
        g_string_append_printf(tree->out, "%*s", column ? SPACING : 0, "");
        append_cell(tree, column, TITLE, columns[column].title);
    }
    g_string_append_c(tree->out, '\n');
}

static bool is_untagged(const json_t *image)
{
    const char *tag = json_string_value(json_array_get(json_get_array(image, "RepoTags"), 0)),
               *digest = json_string_value(json_array_get(json_get_array(image, "RepoDigests"), 0));
    return (!tag || strcmp(tag, "<none>:<none>") == 0) && (!digest || strcmp(digest, "<none>@<none>") == 0);
}

bool image_tree_check(const struct options *options, GError **error)
{
    static const char *const refused[][2] = { { "quiet", "--quiet" },
                                              { "no-trunc", "--no-trunc" },
                                              { "digests", "--show-digest" } };
    for (gsize i = 0; i < G_N_ELEMENTS(refused); i++)
        if (options_bool(options, refused[i][0], false))
            return error_set(error, TARE_ERROR_INVALID, "%s is not yet supported with --tree", refused[i][1]);
    if (*options_string(options, "format", ""))
        return error_set(error, TARE_ERROR_INVALID, "--format is not yet supported with --tree");
    return true;
}

void image_tree_show(const json_t *images, bool all)
{
    g_autoptr(GString) out = g_string_new(NULL);
    g_autoptr(json_t) shown = json_array();
    struct tree tree = { .out = out, .colour = is_terminal(STDOUT_FILENO) };
    size_t i;
    json_t *image;
    json_array_foreach((json_t *)images, i, image) if (all || !is_untagged(image)) json_array_append(shown, image);
    tree.terminal = tree.colour ? (guint)terminal_width(STDOUT_FILENO, 0) : 0;
    guint width = MAX(tree.terminal ? tree.terminal : 80, 20);
    lay_out(&tree, shown, width);
    append_head(&tree, width);
    json_array_foreach(shown, i, image) append_image(&tree, image);
    print("%s", out->str);
}
