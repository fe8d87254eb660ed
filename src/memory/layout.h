/* SPDX-License-Identifier: BSD-3-Clause */
/* layout.h - what both ends of a layout need of their socket. */
#ifndef GM_MEMORY_LAYOUT_H
#define GM_MEMORY_LAYOUT_H

#include <guestmem/error.h>

/* 0; -EPROTOTYPE for a socket that cannot carry a layout: packets that get lost, or no fds. */
int gm_layout_check_socket(int sock, struct gm_error *err);

#endif
