#include "base/cidr.h"

#include <arpa/inet.h>
#include <string.h>

bool address_parse(const char *text, guint8 ret[16])
{
    struct in_addr four;
    static const guint8 mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
    if (inet_pton(AF_INET, text, &four) == 1) {
        memcpy(ret, mapped, sizeof mapped);
        memcpy(ret + 12, &four, 4);
        return true;
    }
    return inet_pton(AF_INET6, text, ret) == 1;
}

bool address_is_loopback(const guint8 address[16])
{
    return cidr_has("127.0.0.0/8", address) || cidr_has("::1/128", address);
}

bool cidr_parse(const char *text, guint8 ret_address[16], unsigned *ret_bits)
{
    g_auto(GStrv) parts = g_strsplit(text, "/", 2);
    guint64 bits;
    if (!parts[0] || !parts[1] || !address_parse(parts[0], ret_address) ||
        !g_ascii_string_to_unsigned(parts[1], 10, 0, 128, &bits, NULL))
        return false;
    bool is_four = strchr(parts[0], ':') == NULL;
    if (is_four && bits > 32)
        return false;
    *ret_bits = (unsigned)bits + (is_four ? 96 : 0);
    return true;
}

bool cidr_has(const char *cidr, const guint8 address[16])
{
    guint8 network[16];
    unsigned bits;
    if (!cidr_parse(cidr, network, &bits) || memcmp(network, address, bits / 8) != 0)
        return false;
    unsigned rest = bits % 8;
    guint8 mask = (guint8)(0xff << (8 - rest));
    return rest == 0 || ((network[bits / 8] ^ address[bits / 8]) & mask) == 0;
}
