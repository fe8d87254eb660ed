/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pagemap.h - PAGEMAP_SCAN in batches.
 *
 * It has a trap: with room for more than 512 extents, walk_end may be that of the last internal batch, and who goes on
 * there gets up to 512 extents twice. So a scan goes on behind the last extent that came, as long as batches are full.
 */
#ifndef GM_SERVICES_PAGEMAP_H
#define GM_SERVICES_PAGEMAP_H

#include <stdbool.h>

#include "sys/uapi.h"

/*
 * The next extents of @arg, whose start moves behind them, into its vec. Returns how many, with *ret_more if the room
 * was too small for all, or what the kernel answered; interrupted calls are made again.
 */
int gm_pagemap_scan(int fd, struct pm_scan_arg *arg, bool *ret_more);

#endif
