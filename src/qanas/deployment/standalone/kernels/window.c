#include <stdint.h>

/* Where a window lies over rows and columns: of the input and of the output, what is skipped from one position to the
   next, how far taps are apart, and how far the first window begins before the first row and column. */
typedef struct {
  int16_t rows, columns, out_rows, out_columns;
  int16_t tap_rows, tap_columns, stride_rows, stride_columns, gap_rows, gap_columns, above, left;
} window;
