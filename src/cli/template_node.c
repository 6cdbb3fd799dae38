/* Templates: the nodes of the tree, and how errors write them. */
#include "cli/template-internal.h"

#include <string.h>

static void node_free(gpointer data)
{
    struct node *node = data;
    json_decref(node->constant);
    g_clear_pointer(&node->names, g_ptr_array_unref);
    g_clear_pointer(&node->items, g_ptr_array_unref);
    g_clear_pointer(&node->declared, g_ptr_array_unref);
    g_free(node);
}

struct node *template_node(struct template *template, enum node_kind kind, gsize at)
{
    struct node *node = g_new0(struct node, 1);
    node->kind = kind;
    node->at = at;
    if (!template->nodes)
        template->nodes = g_ptr_array_new_with_free_func(node_free);
    g_ptr_array_add(template->nodes, node);
    return node;
}

void template_free(struct template *template)
{
    if (!template)
        return;
    g_clear_pointer(&template->nodes, g_ptr_array_unref);
    g_clear_pointer(&template->trees, g_hash_table_unref);
    g_string_chunk_free(template->texts);
    g_free(template->text);
    g_free(template);
}

static void write_names(GString *out, const struct node *node, bool dot_first)
{
    for (guint i = 0; i < node->names->len; i++)
        g_string_append_printf(out, "%s%s", i || dot_first ? "." : "", (const char *)node->names->pdata[i]);
}

static void write_pipe(GString *out, const struct node *pipe)
{
    for (guint i = 0; pipe->declared && i < pipe->declared->len; i++) {
        g_string_append(out, i ? ", " : "");
        write_names(out, pipe->declared->pdata[i], false);
    }
    if (pipe->declared)
        g_string_append(out, pipe->assigns ? " = " : " := ");
    for (guint i = 0; i < pipe->items->len; i++) {
        g_string_append(out, i ? " | " : "");
        template_node_write(out, pipe->items->pdata[i]);
    }
}

static void write_parenthesized(GString *out, const struct node *node)
{
    bool is_pipe = node->kind == NODE_PIPE;
    g_string_append(out, is_pipe ? "(" : "");
    template_node_write(out, node);
    g_string_append(out, is_pipe ? ")" : "");
}

void template_node_write(GString *out, const struct node *node)
{
    switch (node->kind) {
    case NODE_PIPE:
        write_pipe(out, node);
        break;
    case NODE_COMMAND:
        for (guint i = 0; i < node->items->len; i++) {
            g_string_append(out, i ? " " : "");
            write_parenthesized(out, node->items->pdata[i]);
        }
        break;
    case NODE_FIELD:
        write_names(out, node, true);
        break;
    case NODE_VARIABLE:
        write_names(out, node, false);
        break;
    case NODE_CHAIN:
        write_parenthesized(out, node->inner);
        write_names(out, node, true);
        break;
    case NODE_DOT:
        g_string_append_c(out, '.');
        break;
    case NODE_END:
        g_string_append(out, "{{end}}");
        break;
    case NODE_ELSE:
        g_string_append(out, "{{else}}");
        break;
    case NODE_ACTION:
        g_string_append(out, "{{");
        write_pipe(out, node->inner);
        g_string_append(out, "}}");
        break;
    case NODE_TEMPLATE:
        g_string_append(out, "{{template ");
        template_quote(out, node->text, strlen(node->text), 0);
        if (node->inner) {
            g_string_append_c(out, ' ');
            write_pipe(out, node->inner);
        }
        g_string_append(out, "}}");
        break;
    default:
        g_string_append(out, node->text ? node->text : "");
    }
}

bool template_node_is_empty(const struct node *list)
{
    for (guint i = 0; i < list->items->len; i++) {
        const struct node *node = list->items->pdata[i];
        if (node->kind != NODE_TEXT || node->text[strspn(node->text, " \t\r\n\v\f")] != '\0')
            return false;
    }
    return true;
}
