/* What this machine is called in images and in the API. */
#pragma once

/* Go's name of the host's architecture (GOARCH): "amd64", "arm64" …; the kernel's own name where Go has none that we know.
 * Static. */
const char *platform_architecture(void);
