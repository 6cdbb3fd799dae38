/* tare-shim: one container's supervisor (src/shim/shim.h). Started by tared only. */
#include "shim/shim.h"

int main(int argc, char **argv)
{
    return shim_main(argc, argv);
}
