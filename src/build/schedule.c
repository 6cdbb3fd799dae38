/* Stages run in threads of their own, each as far as it gets without the others; their messages come out in the plan's order. */
#include "base/fd.h"
#include "build/build-internal.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define HELD_MAX (8u << 20) /* messages of one stage that wait for earlier ones; then it waits too */
#define THREADS_EAGER 64    /* beyond so many a stage starts only when all that it needs is there */

enum task_state { TASK_IDLE, TASK_STARTED, TASK_DONE, TASK_FAILED };

struct build_task {
    struct build_job *job;
    guint index;
    enum task_state state;
    struct build build; /* the stage's own stream, args, state and containers; the rest is shared */
    struct build_output output;
    struct cancel *cancel;
    struct build_state *result;
    GThread *thread;
    GError *problem;
    GQueue held; /* messages that wait for those of earlier stages */
    gsize held_bytes;
    bool finished, passed; /* it has said all; all of that is out */
};

struct build_job {
    struct build *main;
    struct build_graph *graph;
    struct build_task *tasks;
    guint n_running, n_started, limit;
    gint n_blocked; /* of the running ones, by messages that nobody takes yet; atomic */
    guint failed;   /* the first stage that failed, or n */
    GMutex lock;
    GCond changed;
    GHashTable *made; /* "PARENT KEY" of steps that were not found in the cache */
    int wake;         /* an eventfd: a task's state changed */
    GMutex output_lock;
    GCond output_changed;
};

static void wake(struct build_job *job)
{
    guint64 one = 1;

    g_cond_broadcast(&job->changed);
    fd_write_full(job->wake, &one, sizeof one);
}

/* ---- messages in order ---- */

static struct build_task *front(struct build_job *job)
{
    for (guint i = 0; i < job->graph->n; i++)
        if (job->graph->nodes[i].needed && !job->tasks[i].passed)
            return &job->tasks[i];
    return NULL;
}

static void let_out(struct build_task *task)
{
    json_t *message;

    while ((message = g_queue_pop_head(&task->held)))
        build_stream_pass(&task->job->main->stream, message);
    task->held_bytes = 0;
}

/* Under the lock. Whoever waits here leaves its place to an earlier stage that is to start. */
static void wait_for_room(struct build_task *task)
{
    struct build_job *job = task->job;

    if (task->held_bytes <= HELD_MAX)
        return;
    g_atomic_int_inc(&job->n_blocked);
    wake(job);
    while (front(job) != task && !cancel_is_set(task->cancel))
        g_cond_wait(&job->output_changed, &job->output_lock);
    g_atomic_int_add(&job->n_blocked, -1);
}

static bool take_message(void *user, const json_t *message)
{
    struct build_task *task = user;
    struct build_job *job = task->job;
    const char *text = json_get_string(message, "stream", "");
    bool good;

    g_mutex_lock(&job->output_lock);
    if (job->main->request->progress || front(job) == task) {
        let_out(task);
        build_stream_pass(&job->main->stream, json_incref((json_t *)message));
    } else {
        g_queue_push_tail(&task->held, json_incref((json_t *)message));
        task->held_bytes += strlen(text);
        wait_for_room(task);
    }
    good = !job->main->stream.broken;
    g_mutex_unlock(&job->output_lock);
    return good;
}

/* A stage is through: what later ones had to say follows. */
static void pass_messages(struct build_task *task)
{
    struct build_job *job = task->job;
    struct build_task *next;

    g_mutex_lock(&job->output_lock);
    task->finished = true;
    while ((next = front(job))) {
        let_out(next);
        if (!next->finished)
            break;
        next->passed = true;
    }
    g_cond_broadcast(&job->output_changed);
    g_mutex_unlock(&job->output_lock);
}

/* ---- tasks ---- */

static void cancel_tasks(struct build_job *job, guint from)
{
    for (guint i = from; i < job->graph->n; i++)
        cancel_trigger(job->tasks[i].cancel);
    g_mutex_lock(&job->output_lock);
    g_cond_broadcast(&job->output_changed);
    g_mutex_unlock(&job->output_lock);
}

/* Under the lock. The first failure in the plan's order is the build's: what comes later ends, what comes before goes on. */
static void note_failure(struct build_job *job, guint index)
{
    if (index < job->failed)
        job->failed = index;
    cancel_tasks(job, index + 1);
}

static void run_task(struct build_task *task)
{
    struct build_job *job = task->job;
    bool good = build_run_stage(&task->build, job->main->plan->stages->pdata[task->index], task->index, &task->problem);

    task->result = g_steal_pointer(&task->build.state);
    if (good)
        pass_messages(task);
    g_mutex_lock(&job->lock);
    task->state = good ? TASK_DONE : TASK_FAILED;
    job->n_running--;
    job->n_started--;
    if (!good)
        note_failure(job, task->index);
    wake(job);
    g_mutex_unlock(&job->lock);
}

static gpointer task_thread(gpointer user)
{
    run_task(user);
    return NULL;
}

static bool is_done(const struct build_job *job, int stage)
{
    return stage < 0 || job->tasks[stage].state == TASK_DONE;
}

/* A stage starts with its base there; what COPY --from needs it waits for when it comes to it. */
static bool is_ready(const struct build_job *job, guint index)
{
    const struct build_node *node = &job->graph->nodes[index];

    if (!node->needed || job->tasks[index].state != TASK_IDLE || index > job->failed || !is_done(job, node->base))
        return false;
    for (guint i = 0; job->n_started >= THREADS_EAGER && i < node->needs->len; i++)
        if (!is_done(job, (int)g_array_index(node->needs, guint, i)))
            return false;
    return true;
}

static void mark_started(struct build_task *task)
{
    task->state = TASK_STARTED;
    task->job->n_running++;
    task->job->n_started++;
}

static void start_ready(struct build_job *job)
{
    for (guint i = 0; i < job->graph->n && job->n_running < job->limit + (guint)g_atomic_int_get(&job->n_blocked); i++) {
        if (!is_ready(job, i))
            continue;
        mark_started(&job->tasks[i]);
        job->tasks[i].thread = g_thread_new("stage", task_thread, &job->tasks[i]);
    }
}

/* Under the lock: the stage's result is there, or it failed, or nobody waits for it any more. */
static bool wait_for(struct build_job *job, struct build_task *task, struct cancel *cancel, GError **error)
{
    job->n_running--;
    wake(job); /* another may run meanwhile */
    while (task->state != TASK_DONE && task->state != TASK_FAILED && !cancel_is_set(cancel))
        g_cond_wait(&job->changed, &job->lock);
    job->n_running++;
    return task->state == TASK_DONE || error_set(error, TARE_ERROR_CANCELLED, "a stage that this one needs failed");
}

bool build_stage_result(struct build *build, guint index, const struct build_state **ret, GError **error)
{
    struct build_job *job = build->job;
    struct build_task *task = &job->tasks[index];
    bool is_mine, good = true;

    g_mutex_lock(&job->lock);
    /* A trigger of a base image may name a stage that the plan did not show to be needed; whoever asks runs it. */
    is_mine = task->state == TASK_IDLE && !job->graph->nodes[index].needed;
    if (is_mine) {
        g_mutex_lock(&job->output_lock);
        job->graph->nodes[index].needed = true;
        g_mutex_unlock(&job->output_lock);
        task->build.cancel = build->cancel;
        mark_started(task);
        g_mutex_unlock(&job->lock);
        run_task(task);
        g_mutex_lock(&job->lock);
    }
    if (task->state != TASK_DONE)
        good = wait_for(job, task, build->cancel, error);
    *ret = task->result;
    g_mutex_unlock(&job->lock);
    return good;
}

bool build_made_step(struct build *build, const char *name, bool add)
{
    struct build_job *job = build->job;
    bool made;

    g_mutex_lock(&job->lock);
    if (add)
        g_hash_table_add(job->made, g_strdup(name));
    made = g_hash_table_contains(job->made, name);
    g_mutex_unlock(&job->lock);
    return made;
}

/* ---- the whole ---- */

/* By name or number. */
static bool is_listed(const char *const *stages, const char *name, guint index)
{
    g_autofree char *number = g_strdup_printf("%u", index);

    for (; stages && *stages; stages++)
        if (strcmp(*stages, number) == 0 || (name && g_ascii_strcasecmp(*stages, name) == 0))
            return true;
    return false;
}

static void task_init(struct build_job *job, guint index, unsigned *step)
{
    struct build_task *task = &job->tasks[index];
    const struct build_stage *stage = job->main->plan->stages->pdata[index];

    task->job = job;
    task->index = index;
    task->cancel = cancel_new();
    task->build = *job->main;
    task->build.job = job;
    task->build.cancel = task->cancel;
    task->build.step = *step;
    task->build.no_cache = job->main->request->no_cache || is_listed(job->main->request->no_cache_stages, stage->name, index);
    task->build.n_steps = job->main->n_steps;
    task->build.args = build_args_new_stage(job->main->args);
    task->build.containers = g_ptr_array_new_with_free_func(g_free);
    task->output = (struct build_output){ take_message, task };
    build_stream_init(&task->build.stream, &task->output, false);
    task->build.stream.progress = job->main->request->progress;
    if (job->graph->nodes[index].needed)
        *step += 1 + stage->steps->len;
}

static void job_init(struct build_job *job, struct build *main, struct build_graph *graph)
{
    unsigned step = main->step;

    *job = (struct build_job){ .main = main, .graph = graph, .failed = graph->n, .limit = MAX(4, g_get_num_processors()) };
    g_mutex_init(&job->lock);
    g_mutex_init(&job->output_lock);
    g_cond_init(&job->changed);
    g_cond_init(&job->output_changed);
    job->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    job->made = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    job->tasks = g_new0(struct build_task, graph->n);
    for (guint i = 0; i < graph->n; i++)
        task_init(job, i, &step);
}

static void job_clear(struct build_job *job)
{
    for (guint i = 0; i < job->graph->n; i++) {
        struct build_task *task = &job->tasks[i];

        build_args_free(task->build.args);
        g_ptr_array_unref(task->build.containers);
        build_stream_clear(&task->build.stream);
        build_state_free(task->result);
        g_queue_clear_full(&task->held, (GDestroyNotify)json_decref);
        g_clear_error(&task->problem);
        cancel_unref(task->cancel);
    }
    g_free(job->tasks);
    g_hash_table_unref(job->made);
    fd_close(job->wake);
    g_mutex_clear(&job->lock);
    g_mutex_clear(&job->output_lock);
    g_cond_clear(&job->changed);
    g_cond_clear(&job->output_changed);
}

/* Nothing runs, and nothing more can. */
static bool is_over(struct build_job *job)
{
    for (guint i = 0; i < job->graph->n; i++)
        if (job->tasks[i].state == TASK_STARTED || is_ready(job, i))
            return false;
    return true;
}

static void run_all(struct build_job *job)
{
    struct cancel *cancel = job->main->cancel;
    guint64 count;

    for (bool over = false; !over;) {
        g_mutex_lock(&job->lock);
        if (cancel_is_set(cancel)) {
            cancel_trigger(job->tasks[0].cancel);
            note_failure(job, 0);
            g_cond_broadcast(&job->changed);
        }
        start_ready(job);
        over = is_over(job);
        g_mutex_unlock(&job->lock);
        if (!over) /* once it is cancelled only the tasks' ends are waited for */
            cancel_poll(cancel_is_set(cancel) ? NULL : cancel, job->wake, POLLIN, -1, NULL);
        if (!over && read(job->wake, &count, sizeof count) < 0 && errno != EAGAIN)
            g_assert_not_reached();
    }
    for (guint i = 0; i < job->graph->n; i++)
        if (job->tasks[i].thread)
            g_thread_join(job->tasks[i].thread);
}

/* One stage and no other needs no threads. */
static bool run_alone(struct build_job *job)
{
    guint n_needed = 0;

    for (guint i = 0; i < job->graph->n; i++)
        n_needed += job->graph->nodes[i].needed;
    return n_needed == 1;
}

/* A stage without steps is its base, which the cache need not have. */
static void tell_stages(struct build_job *job)
{
    g_autoptr(GHashTable) told = g_hash_table_new(g_str_hash, g_str_equal);
    json_t *ids = json_array();

    for (guint i = 0; i + 1 < job->graph->n; i++) {
        const struct build_stage *stage = job->main->plan->stages->pdata[i];
        const struct image *image = job->tasks[i].result ? job->tasks[i].result->image : NULL;

        if (job->tasks[i].state == TASK_DONE && image && stage->steps->len > 0 && g_hash_table_add(told, (char *)image->id))
            json_array_append_new(ids, json_string(image->id));
    }
    build_stream_pass(&job->main->stream, json_pack("{s:{s:o}}", "aux", "Stages", ids));
}

static bool take_results(struct build_job *job, GError **error)
{
    struct build *main = job->main;
    struct build_task *last = &job->tasks[job->graph->n - 1];

    for (guint i = 0; i < job->graph->n; i++) {
        build_args_merge(main->args, job->tasks[i].build.args);
        main->made_images |= job->tasks[i].build.made_images;
    }
    if (last->state == TASK_DONE) {
        if (main->request->tell_stages)
            tell_stages(job);
        main->state = g_steal_pointer(&last->result);
        return true;
    }
    for (guint i = 0; i < job->graph->n; i++) {
        if (job->tasks[i].state != TASK_FAILED)
            continue;
        main->exit_code = job->tasks[i].build.exit_code;
        g_propagate_error(error, g_steal_pointer(&job->tasks[i].problem));
        return false;
    }
    return error_set(error, TARE_ERROR_CANCELLED, "Build cancelled");
}

bool build_run_stages(struct build *build, struct build_graph *graph, GError **error)
{
    struct build_job job;
    bool good;

    job_init(&job, build, graph);
    if (run_alone(&job)) {
        struct build_task *task = &job.tasks[graph->n - 1];

        task->build.cancel = build->cancel;
        mark_started(task);
        run_task(task);
    } else {
        run_all(&job);
    }
    good = take_results(&job, error);
    job_clear(&job);
    return good;
}
