/* Declarations that main.cc is compiled against where TFLite Micro isn't at hand: ours, only for its syntax. */
#ifndef TFLM_STUB_MICRO_INTERPRETER_H_
#define TFLM_STUB_MICRO_INTERPRETER_H_

#include <cstddef>
#include <cstdint>

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };

union TfLitePtrUnion {
  int8_t *int8;
  int16_t *i16;
};

struct TfLiteTensor {
  TfLitePtrUnion data;
};

namespace tflite {

class Model;
class MicroOpResolver {};

class MicroInterpreter {
 public:
  MicroInterpreter(const Model *model, const MicroOpResolver &resolver, uint8_t *arena, size_t arena_size);
  TfLiteStatus AllocateTensors();
  TfLiteStatus Invoke();
  TfLiteStatus Reset();
  TfLiteTensor *input(size_t index);
  TfLiteTensor *output(size_t index);
  size_t arena_used_bytes() const;
};

}  // namespace tflite

#endif
