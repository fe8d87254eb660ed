/* SPDX-License-Identifier: BSD-3-Clause */
/* firecracker_none.c - what stands in for firecracker.c in a build without jansson. */
#include <guestmem/firecracker.h>

#include <errno.h>

#include "core/error.h"

int gm_firecracker_decode(const char *text, size_t len, struct gm_firecracker_mapping *ret,
	size_t max, size_t *ret_nr, struct gm_error *err)
{
	(void)text;
	(void)len;
	(void)ret;
	(void)max;
	(void)ret_nr;
	return gm_error_set(err, -ENOTSUP, 0, 0, "firecracker: this build has no jansson");
}

int gm_firecracker_recv(int sock, struct gm_firecracker_mapping *ret, size_t max, size_t *ret_nr,
	int *ret_uffd, struct gm_error *err)
{
	(void)sock;
	(void)ret_uffd;
	return gm_firecracker_decode("", 0, ret, max, ret_nr, err);
}

int gm_firecracker_look(int sock, struct gm_firecracker_mapping *ret, size_t max, size_t *ret_nr,
	int *ret_uffd, struct gm_error *err)
{
	return gm_firecracker_recv(sock, ret, max, ret_nr, ret_uffd, err);
}
