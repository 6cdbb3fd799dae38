/* A web server that answers one thing. */
#include "answer.h"
#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(8080) };
    char request[4096];
    int one = 1, server = socket(AF_INET, SOCK_STREAM, 0);

    if (argc > 1 && strcmp(argv[1], "--self-test") == 0)
        return server < 0;
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(server, (struct sockaddr *)&address, sizeof address) < 0 || listen(server, 16) < 0)
        return 1;
    for (;;) {
        int client = accept(server, NULL, NULL);

        if (client < 0 || read(client, request, sizeof request) < 0 || write(client, ANSWER, strlen(ANSWER)) < 0)
            return 2;
        close(client);
    }
}
