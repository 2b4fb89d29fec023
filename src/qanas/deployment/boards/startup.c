/* Starts a program on an emulated board; printf and exit go to the host by semihosting. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern char _data_start[], _data_end[], _data_load[], _bss_start[], _bss_end[], _stack_top[];
extern void __libc_init_array(void);
extern void initialise_monitor_handles(void);
int main(void);

void _init(void) {}
void _fini(void) {}

static void reset(void) {
  *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* the floating-point unit */
  memcpy(_data_start, _data_load, (size_t)(_data_end - _data_start));
  memset(_bss_start, 0, (size_t)(_bss_end - _bss_start));
  initialise_monitor_handles();
  __libc_init_array();
  exit(main());
}

static void fault(void) { exit(99); }

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    _stack_top, reset, fault, fault, fault, fault, fault};
