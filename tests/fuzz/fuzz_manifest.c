#include "registry/registry-internal.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte chooses the Content-Type. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const types[] = { "", MEDIA_OCI_MANIFEST, MEDIA_OCI_INDEX, MEDIA_DOCKER_MANIFEST "; charset=utf-8" };
    struct registry_manifest manifest;
    if (size == 0 || !registry_manifest_parse((const char *)data + 1, size - 1, types[data[0] % 4], &manifest, NULL))
        return 0;
    struct platform wanted;
    struct descriptor config;
    g_autofree struct descriptor *layers = NULL;
    size_t n;
    platform_parse(NULL, &wanted, NULL);
    platform_choose(manifest.json, &wanted);
    (void)(manifest_layers(&manifest, &layers, &n, NULL) && manifest_config(&manifest, &config, NULL));
    platform_clear(&wanted);
    registry_manifest_clear(&manifest);
    return 0;
}
