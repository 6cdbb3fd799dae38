/* The floor of a pull: fetches the layers of an image from a registry that speaks plain HTTP, hashes what comes, inflates it,
 * hashes that and writes it to a file. Nothing else: no checks, no index, no names, no progress.
 *
 *   pull_floor HOST PORT DIRECTORY REPOSITORY DIGEST…     all of it, three layers at a time; prints the seconds
 *   pull_floor parts DIRECTORY FILE…                      blobs in files: seconds of inflating, hashing (both) and writing alone
 */
#include <fcntl.h>
#include <isa-l/igzip_lib.h>
#include <netdb.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 1 << 20, RING = 4, AT_ONCE = 3, IN_ROOM = 256 << 10 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Inflated pieces on their way to the thread that hashes and writes them. */
struct ring {
    unsigned char *buffers[RING];
    size_t used[RING];
    unsigned head, tail; /* taken, given */
    bool ended;
    int out;
    pthread_mutex_t lock;
    pthread_cond_t moved;
};

static void *hash_and_write(void *data)
{
    struct ring *ring = data;
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
    for (;;) {
        pthread_mutex_lock(&ring->lock);
        while (ring->head == ring->tail && !ring->ended)
            pthread_cond_wait(&ring->moved, &ring->lock);
        bool done = ring->head == ring->tail;
        pthread_mutex_unlock(&ring->lock);
        if (done)
            break;
        unsigned at = ring->head % RING;
        if (ring->out >= 0 && write(ring->out, ring->buffers[at], ring->used[at]) != (ssize_t)ring->used[at])
            fail("write");
        EVP_DigestUpdate(hash, ring->buffers[at], ring->used[at]);
        pthread_mutex_lock(&ring->lock);
        ring->head++;
        pthread_cond_signal(&ring->moved);
        pthread_mutex_unlock(&ring->lock);
    }
    EVP_MD_CTX_free(hash);
    return NULL;
}

static void give(struct ring *ring, size_t used)
{
    pthread_mutex_lock(&ring->lock);
    ring->used[ring->tail % RING] = used;
    ring->tail++;
    pthread_cond_signal(&ring->moved);
    while (ring->tail - ring->head == RING)
        pthread_cond_wait(&ring->moved, &ring->lock);
    pthread_mutex_unlock(&ring->lock);
}

static int ask(const char *host, const char *port, const char *repository, const char *digest)
{
    struct addrinfo *found, hints = { .ai_socktype = SOCK_STREAM };
    char request[1024];
    if (getaddrinfo(host, port, &hints, &found) != 0)
        fail("getaddrinfo");
    int fd = socket(found->ai_family, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) < 0)
        fail("connect");
    freeaddrinfo(found);
    int n = snprintf(request, sizeof request, "GET /v2/%s/blobs/%s HTTP/1.1\r\nHost: %s:%s\r\nConnection: close\r\n\r\n",
                     repository, digest, host, port);
    if (write(fd, request, (size_t)n) != n)
        fail("write");
    return fd;
}

/* Up to the end of the answer's head; what follows it is moved to the front. */
static size_t skip_head(int fd, unsigned char *in)
{
    size_t have = 0;
    for (;;) {
        ssize_t n = read(fd, in + have, IN_ROOM - have);
        if (n <= 0)
            fail("read");
        have += (size_t)n;
        unsigned char *end = memmem(in, have, "\r\n\r\n", 4);
        if (!end)
            continue;
        size_t rest = have - (size_t)(end + 4 - in);
        memmove(in, end + 4, rest);
        return rest;
    }
}

static void inflate_all(int fd, size_t have, unsigned char *in, bool hash_input, struct ring *ring)
{
    struct inflate_state *state = malloc(sizeof *state);
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
    isal_inflate_init(state);
    state->crc_flag = ISAL_GZIP;
    state->next_out = ring->buffers[0];
    state->avail_out = ROOM;
    for (;;) {
        if (hash_input)
            EVP_DigestUpdate(hash, in, have);
        state->next_in = in;
        state->avail_in = (uint32_t)have;
        while (state->avail_in > 0 && state->block_state != ISAL_BLOCK_FINISH) {
            if (isal_inflate(state) != ISAL_DECOMP_OK)
                fail("inflate");
            if (state->avail_out == 0) {
                give(ring, ROOM);
                state->next_out = ring->buffers[ring->tail % RING];
                state->avail_out = ROOM;
            }
        }
        ssize_t n = read(fd, in, IN_ROOM);
        if (n <= 0)
            break;
        have = (size_t)n;
    }
    if (state->avail_out < ROOM)
        give(ring, ROOM - state->avail_out);
    EVP_MD_CTX_free(hash);
    free(state);
}

static void run_layer(int in_fd, bool has_head, bool hash_input, int out)
{
    struct ring ring = { .out = out, .lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER };
    unsigned char *in = malloc(IN_ROOM);
    pthread_t thread;
    for (int i = 0; i < RING; i++)
        ring.buffers[i] = malloc(ROOM);
    pthread_create(&thread, NULL, hash_and_write, &ring);
    inflate_all(in_fd, has_head ? skip_head(in_fd, in) : 0, in, hash_input, &ring);
    pthread_mutex_lock(&ring.lock);
    ring.ended = true;
    pthread_cond_signal(&ring.moved);
    pthread_mutex_unlock(&ring.lock);
    pthread_join(thread, NULL);
    for (int i = 0; i < RING; i++)
        free(ring.buffers[i]);
    free(in);
}

static char **arguments;
static int next_layer, n_layers;
static pthread_mutex_t next_lock = PTHREAD_MUTEX_INITIALIZER;

static void *run_layers(void *unused)
{
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&next_lock);
        int at = next_layer++;
        pthread_mutex_unlock(&next_lock);
        if (at >= n_layers)
            return NULL;
        char path[4096];
        snprintf(path, sizeof path, "%s/floor-%d", arguments[3], at);
        int out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        int in = ask(arguments[1], arguments[2], arguments[4], arguments[5 + at]);
        run_layer(in, true, true, out);
        close(in);
        close(out);
        unlink(path);
    }
}

/* One after the other in one thread. */
static void measure_parts(const char *directory, int n, char **files)
{
    unsigned char *in = malloc(IN_ROOM), *out = malloc(ROOM);
    struct inflate_state *state = malloc(sizeof *state);
    EVP_MD_CTX *blob = EVP_MD_CTX_new(), *tar = EVP_MD_CTX_new();
    double inflating = 0, hashing = 0, writing = 0, t;
    char path[4096];
    snprintf(path, sizeof path, "%s/floor-parts", directory);
    for (int i = 0; i < n; i++) {
        int fd = open(files[i], O_RDONLY | O_CLOEXEC), to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        EVP_DigestInit_ex(blob, EVP_sha256(), NULL);
        EVP_DigestInit_ex(tar, EVP_sha256(), NULL);
        isal_inflate_init(state);
        state->crc_flag = ISAL_GZIP;
        for (ssize_t got; (got = read(fd, in, IN_ROOM)) > 0;) {
            t = now();
            EVP_DigestUpdate(blob, in, (size_t)got);
            hashing += now() - t;
            state->next_in = in;
            state->avail_in = (uint32_t)got;
            do {
                state->next_out = out;
                state->avail_out = ROOM;
                t = now();
                isal_inflate(state);
                inflating += now() - t;
                size_t used = ROOM - state->avail_out;
                t = now();
                EVP_DigestUpdate(tar, out, used);
                hashing += now() - t;
                t = now();
                if (write(to, out, used) != (ssize_t)used)
                    fail("write");
                writing += now() - t;
            } while (state->avail_out == 0 && state->block_state != ISAL_BLOCK_FINISH);
        }
        close(fd);
        close(to);
    }
    unlink(path);
    printf("%.3f %.3f %.3f\n", inflating, hashing, writing);
}

int main(int argc, char **argv)
{
    if (argc > 3 && strcmp(argv[1], "parts") == 0) {
        measure_parts(argv[2], argc - 3, argv + 3);
        return 0;
    }
    if (argc < 6)
        return 2;
    pthread_t threads[AT_ONCE];
    arguments = argv;
    n_layers = argc - 5;
    double begin = now();
    for (int i = 0; i < AT_ONCE; i++)
        pthread_create(&threads[i], NULL, run_layers, NULL);
    for (int i = 0; i < AT_ONCE; i++)
        pthread_join(threads[i], NULL);
    printf("%.3f\n", now() - begin);
    return 0;
}
