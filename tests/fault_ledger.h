/* SPDX-License-Identifier: BSD-3-Clause */
/* fault_ledger.h - what fault.c tells fault_state.c: mappings and allocations that come and go. */
#ifndef GM_TESTS_FAULT_LEDGER_H
#define GM_TESTS_FAULT_LEDGER_H

#include <stdint.h>

void fault_ledger_map(uint64_t addr, uint64_t len);
void fault_ledger_unmap(uint64_t addr, uint64_t len);
void fault_ledger_blocks(long nr, long len);

#endif
