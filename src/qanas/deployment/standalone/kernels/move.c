#include <stdint.h>
#include <string.h>

/* Copies bytes from one order into another: axes has, for each of count axes, its size and how far the next number is
   in source and target. */
static void move(const int32_t *axes, int32_t count, const int8_t *source, int8_t *target) {
  int32_t at;
  if (count == 1 && axes[1] == 1 && axes[2] == 1) {
    memcpy(target, source, (size_t)axes[0]);
    return;
  }
  for (at = 0; at < axes[0]; ++at) {
    if (count > 1) {
      move(axes + 3, count - 1, source, target);
    } else {
      *target = *source;
    }
    source += axes[1];
    target += axes[2];
  }
}
