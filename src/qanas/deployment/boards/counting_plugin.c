/* A plugin of QEMU's that counts the instructions of one function, and of each call that it makes through a pointer.

   Arguments: from=ADDRESS, to=ADDRESS (of the function's code, hexadecimal), out=FILE. The file has a line
   "whole COUNT", from the function's first instruction to its last, and a line "call ADDRESS COUNT" for each call by
   BLX, in their order. Distributions ship QEMU without its plugins' header: what is used of it is declared here. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef void (*translated)(qemu_plugin_id_t id, void *block);
typedef void (*executed)(unsigned int cpu, void *data);
typedef void (*ended)(qemu_plugin_id_t id, void *data);

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, translated call);
extern size_t qemu_plugin_tb_n_insns(const void *block);
extern void *qemu_plugin_tb_get_insn(const void *block, size_t at);
extern uint64_t qemu_plugin_insn_vaddr(const void *instruction);
extern const void *qemu_plugin_insn_data(const void *instruction);
extern void qemu_plugin_register_vcpu_insn_exec_cb(void *instruction, executed call, int registers, void *data);
extern void qemu_plugin_register_vcpu_insn_exec_inline(void *instruction, int add, void *number, uint64_t by);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, ended call, void *data);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static uint64_t count, first, last;
static uint64_t from, to, calling; /* calling: the BLX that was executed last in the function; 0: another instruction */
static int begun;
static FILE *out;

static int calls_by_pointer(const void *instruction) {
  uint16_t code;
  memcpy(&code, qemu_plugin_insn_data(instruction), sizeof code);
  return (code & 0xFF87) == 0x4780; /* BLX Rm */
}

/* `data` is the instruction's address, odd where it calls by pointer. */
static void in_the_function(unsigned int cpu, void *data) {
  const uint64_t address = (uint64_t)(uintptr_t)data & ~(uint64_t)1;
  (void)cpu;
  if (!begun) {
    begun = 1;
    first = count;
  }
  if (calling != 0 && address == calling + 2) {
    fprintf(out, "call %llx %llu\n", (unsigned long long)calling, (unsigned long long)(count - last - 1));
  }
  calling = ((uint64_t)(uintptr_t)data & 1) != 0 ? address : 0;
  last = count;
}

static void on_block(qemu_plugin_id_t id, void *block) {
  size_t at;
  (void)id;
  for (at = 0; at < qemu_plugin_tb_n_insns(block); ++at) {
    void *instruction = qemu_plugin_tb_get_insn(block, at);
    const uint64_t address = qemu_plugin_insn_vaddr(instruction);
    if (from <= address && address < to) {
      const uintptr_t data = (uintptr_t)address | (uintptr_t)calls_by_pointer(instruction);
      qemu_plugin_register_vcpu_insn_exec_cb(instruction, in_the_function, 0, (void *)data);
    }
    qemu_plugin_register_vcpu_insn_exec_inline(instruction, 0, &count, 1);
  }
}

static void at_the_end(qemu_plugin_id_t id, void *data) {
  (void)id;
  (void)data;
  fprintf(out, "whole %llu\n", (unsigned long long)(last - first + 1));
  fclose(out);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int count_of_all,
                                                               char **arguments) {
  int at;
  (void)info;
  for (at = 0; at < count_of_all; ++at) {
    const char *value = strchr(arguments[at], '=');
    if (value == NULL) {
      return -1;
    }
    ++value;
    if (strncmp(arguments[at], "from=", 5) == 0) {
      from = strtoull(value, NULL, 16);
    } else if (strncmp(arguments[at], "to=", 3) == 0) {
      to = strtoull(value, NULL, 16);
    } else if (strncmp(arguments[at], "out=", 4) == 0) {
      out = fopen(value, "w");
    }
  }
  if (out == NULL || from >= to) {
    return -1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
  qemu_plugin_register_atexit_cb(id, at_the_end, NULL);
  return 0;
}
