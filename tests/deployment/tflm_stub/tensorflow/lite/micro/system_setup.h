#ifndef TFLM_STUB_SYSTEM_SETUP_H_
#define TFLM_STUB_SYSTEM_SETUP_H_

namespace tflite {
void InitializeTarget();
}

#endif
