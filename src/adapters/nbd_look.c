/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd_look.c - what an export is: its size, its blocks, and which parts are zeros.
 *
 * That takes structured replies, with which a server may answer a read in pieces and leave some out. So it is asked
 * on a connection of its own, and reads go by others, whose replies are whole or none.
 */
#include "adapters/nbd.h"

#include <errno.h>
#include <string.h>

#include "core/error.h"
#include "core/range.h"
#include "sys/sys.h"

#define CONTEXT "base:allocation"
#define STATE_ZERO 2u /* of base:allocation: reads as zeros */
#define ASK_MAX (UINT64_C(1) << 30)
#define EXTENTS_MAX (1u << 20)

struct nbd_handle *gm_nbd_handle(bool structured)
{
	struct nbd_handle *nbd = nbd_create();

	if (!nbd)
		return NULL;
	if (nbd_set_request_structured_replies(nbd, structured)) {
		nbd_close(nbd);
		return NULL;
	}
	return nbd;
}

int gm_nbd_error(struct gm_error *err, const char *uri, int fallback)
{
	const char *why = nbd_get_error();
	int code = nbd_get_errno() > 0 ? -nbd_get_errno() : fallback;

	return gm_error_set(err, code, 0, 0, "nbd: %s: %s", uri, why ? why : gm_error_word(code));
}

/* One step of waiting; -ETIMEDOUT behind the deadline. */
static int wait_step(
	struct nbd_handle *nbd, const char *uri, uint64_t deadline_ns, struct gm_error *err)
{
	uint64_t now = gm_sys_now_ns();
	uint64_t left = now < deadline_ns ? (deadline_ns - now) / 1000000 + 1 : 0;

	if (!left)
		return gm_error_set(
			err, -ETIMEDOUT, 0, 0, "nbd: %s: the server does not answer", uri);
	return nbd_poll(nbd, left < INT32_MAX ? (int)left : INT32_MAX) < 0
		       ? gm_nbd_error(err, uri, -EIO)
		       : 0;
}

int gm_nbd_connect(
	struct nbd_handle *nbd, const char *uri, uint64_t deadline_ns, struct gm_error *err)
{
	int rc = 0;

	if (nbd_aio_connect_uri(nbd, uri))
		return gm_nbd_error(err, uri, -EIO);
	while (!rc && nbd_aio_is_connecting(nbd) > 0)
		rc = wait_step(nbd, uri, deadline_ns, err);
	if (!rc && nbd_aio_is_ready(nbd) <= 0)
		rc = gm_nbd_error(err, uri, -EIO);
	return rc;
}

/* ---- extents ---- */

/* An answer of the server. */
struct answer {
	struct gm_nbd_export *export;
	uint64_t at; /* up to which byte the map goes */
	bool full;
	bool done;
};

static bool put(struct gm_nbd_export *e, uint64_t end, bool zero)
{
	if (e->nr_extents && e->extents[e->nr_extents - 1].zero == zero) {
		e->extents[e->nr_extents - 1].end = end;
		return true;
	}
	if (e->nr_extents == e->room) {
		size_t room = e->room ? e->room * 2 : 64;
		struct gm_nbd_extent *more =
			room <= EXTENTS_MAX ? gm_sys_realloc(e->extents, room, sizeof(*more))
					    : NULL;

		if (!more)
			return false;
		e->extents = more;
		e->room = room;
	}
	e->extents[e->nr_extents++] = (struct gm_nbd_extent){end, zero};
	return true;
}

/* What does not follow on what is known is left out, and what passes the end is cut. */
static int on_extents(void *ctx, const char *context, uint64_t offset, uint32_t *entries,
	size_t nr_entries, int *error)
{
	struct answer *a = ctx;

	(void)error;
	if (strcmp(context, CONTEXT) != 0 || offset != a->at)
		return 0;
	for (size_t i = 0; i + 1 < nr_entries && !a->full; i += 2) {
		uint64_t left = a->export->len - a->at;
		uint64_t len = entries[i] < left ? entries[i] : left;

		if (len == 0)
			break;
		a->full = !put(a->export, a->at + len, entries[i + 1] & STATE_ZERO);
		a->at += a->full ? 0 : len;
	}
	return 0;
}

static int on_answer(void *ctx, int *error)
{
	struct answer *a = ctx;

	(void)error;
	a->done = true;
	return 1;
}

/* Whatever goes wrong: what is not known is data. */
static void find_extents(
	struct nbd_handle *nbd, const char *uri, uint64_t deadline_ns, struct gm_nbd_export *e)
{
	struct answer a = {.export = e};
	bool more = true;

	while (more && a.at < e->len && !a.full) {
		uint64_t from = a.at;
		uint64_t left = e->len - from;

		a.done = false;
		if (nbd_aio_block_status(nbd, left < ASK_MAX ? left : ASK_MAX, from,
			    (nbd_extent_callback){.callback = on_extents, .user_data = &a},
			    (nbd_completion_callback){.callback = on_answer, .user_data = &a},
			    0) < 0)
			break;
		while (!a.done && !wait_step(nbd, uri, deadline_ns, NULL))
			;
		more = a.done && a.at > from;
	}
	if (a.at < e->len && !put(e, e->len, false) && e->nr_extents)
		e->extents[e->nr_extents - 1] = (struct gm_nbd_extent){e->len, false};
}

/* ---- all of it ---- */

static uint32_t block_size(struct nbd_handle *nbd, int which, uint32_t otherwise)
{
	int64_t size = nbd_get_block_size(nbd, which);

	return size > 0 && size <= UINT32_MAX ? (uint32_t)size : otherwise;
}

static int look(struct nbd_handle *nbd, const struct gm_nbd_opts *opts, uint64_t deadline_ns,
	struct gm_nbd_export *e, struct gm_error *err)
{
	int64_t len;
	int rc;

	if (!(opts->flags & GM_NBD_NO_EXTENTS) && nbd_add_meta_context(nbd, CONTEXT))
		return gm_nbd_error(err, opts->uri, -ENOMEM);
	rc = gm_nbd_connect(nbd, opts->uri, deadline_ns, err);
	if (rc)
		return rc;
	len = nbd_get_size(nbd);
	if (len <= 0)
		return gm_error_set(err, -EINVAL, 0, 0, "nbd: %s: the export is empty", opts->uri);
	e->len = (uint64_t)len;
	e->smallest = block_size(nbd, LIBNBD_SIZE_MINIMUM, 1);
	e->preferred = block_size(nbd, LIBNBD_SIZE_PREFERRED, 0);
	e->largest = block_size(nbd, LIBNBD_SIZE_MAXIMUM, 32u << 20);
	if (!gm_is_pow2(e->smallest) || e->largest < e->smallest)
		return gm_error_set(err, -EPROTO, 0, 0,
			"nbd: %s: blocks of %u to %u bytes cannot be", opts->uri, e->smallest,
			e->largest);
	if (!gm_is_pow2(e->preferred))
		e->preferred = 0;
	e->agree = nbd_can_multi_conn(nbd) > 0;
	if (!(opts->flags & GM_NBD_NO_EXTENTS) && nbd_can_meta_context(nbd, CONTEXT) > 0)
		find_extents(nbd, opts->uri, deadline_ns, e);
	return 0;
}

int gm_nbd_look(const struct gm_nbd_opts *opts, uint64_t deadline_ns, struct gm_nbd_export *ret,
	struct gm_error *err)
{
	struct nbd_handle *nbd = gm_nbd_handle(true);
	int rc;

	if (!nbd)
		return gm_nbd_error(err, opts->uri, -ENOMEM);
	rc = look(nbd, opts, deadline_ns, ret, err);
	nbd_close(nbd);
	if (rc)
		gm_nbd_forget(ret);
	return rc;
}

void gm_nbd_forget(struct gm_nbd_export *export)
{
	gm_sys_free(export->extents);
	*export = (struct gm_nbd_export){0};
}
