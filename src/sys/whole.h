/* SPDX-License-Identifier: BSD-3-Clause */
/* whole.h - all of it or an error, however often a signal comes. */
#ifndef GM_SYS_WHOLE_H
#define GM_SYS_WHOLE_H

#include <stddef.h>
#include <stdint.h>

/*
 * Reads @len bytes at @off; calls that are interrupted or fall short go on. Returns 0; -ENODATA (the file ends
 * before), or what pread(2) failed with, *ret_done bytes behind @off.
 */
int gm_pread_whole(int fd, void *buf, size_t len, uint64_t off, size_t *ret_done);
/* Gives a file a length; 0, or what ftruncate(2) failed with. */
int gm_set_length(int fd, uint64_t len);

#endif
