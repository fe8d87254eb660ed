/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run_state.h - a guest beside its memory as bytes: the labels under which "guestmem run" saves it, in one piece.
 * docs/vcpu-state.md has the format. No I/O.
 */
#ifndef TOOL_RUN_STATE_H
#define TOOL_RUN_STATE_H

#include <stddef.h>
#include <stdint.h>

#include <guestmem/snapshot.h>

#define RUN_STATE_MAGIC UINT64_C(0x3174736e75726d67) /* "gmrunst1" */
#define RUN_STATE_VERSION 1u
#define RUN_STATE_HEADER_LEN 32u
#define RUN_STATE_PART_LEN 24u
#define RUN_STATE_PARTS_MAX 65u
#define RUN_STATE_KEY_LEN 16u /* with its NULs, one at least */
#define RUN_STATE_VALUE_MAX (UINT64_C(1) << 20)
#define RUN_STATE_LEN_MAX (UINT64_C(32) << 20)

/* Bytes that run_state_encode() writes; 0: it cannot be written. */
size_t run_state_len(const struct gm_snapshot_label *parts, size_t nr);
/* @buf has room for run_state_len() bytes, which is not 0. */
void run_state_encode(const struct gm_snapshot_label *parts, size_t nr, uint8_t *buf);
/*
 * Any bytes, aligned or not. NULL, or what is wrong with them. @ret has room for RUN_STATE_PARTS_MAX; keys and values
 * lie in @buf.
 */
const char *run_state_decode(
	const uint8_t *buf, size_t len, struct gm_snapshot_label *ret, size_t *ret_nr);

#endif
