/* go-units: sizes as people read them. */
#pragma once

#include <glib.h>

/* HumanSizeWithPrecision(bytes, digits): decimal units, "2.048kB", "63.3MB", "0B". Docker uses 4 digits nearly everywhere and 3
 * for images. g_free. */
char *size_human(guint64 bytes, int digits);
/* BytesSize: binary units, "512MiB". g_free. */
char *size_human_binary(guint64 bytes);
