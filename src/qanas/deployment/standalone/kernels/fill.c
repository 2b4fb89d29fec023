#include <stdint.h>
#include <string.h>

static void fill(int8_t *output, int8_t code, int32_t count) { memset(output, code, (size_t)count); }
