/* SPDX-License-Identifier: BSD-3-Clause */
/* nbd.h - connections to a server, for nbd.c, and what nbd_extents.c finds out before. */
#ifndef GM_ADAPTERS_NBD_H
#define GM_ADAPTERS_NBD_H

#include <guestmem/nbd.h>
#include <libnbd.h>
#include <stdbool.h>

/* Where the map of an export changes from data to zeros or back: the byte behind a stretch. */
struct gm_nbd_extent {
	uint64_t end;
	bool zero;
};

/* What an export is. */
struct gm_nbd_export {
	uint64_t len;
	uint32_t smallest; /* block */
	uint32_t preferred;
	uint32_t largest; /* request */
	bool agree;       /* its connections see the same */
	struct gm_nbd_extent *extents;
	size_t nr_extents;
	size_t room;
};

/* A handle that only reads, not connected; NULL without memory. */
struct nbd_handle *gm_nbd_handle(bool structured);
/* Waits until @nbd is connected and can be asked; a negative errno value with a text. */
int gm_nbd_connect(
	struct nbd_handle *nbd, const char *uri, uint64_t deadline_ns, struct gm_error *err);
/* The text of libnbd's last error in this thread, with a code of ours. */
int gm_nbd_error(struct gm_error *err, const char *uri, int fallback);
int gm_nbd_look(const struct gm_nbd_opts *opts, uint64_t deadline_ns, struct gm_nbd_export *ret,
	struct gm_error *err);
void gm_nbd_forget(struct gm_nbd_export *export);

#endif
