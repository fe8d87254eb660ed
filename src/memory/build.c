/* SPDX-License-Identifier: BSD-3-Clause */
/* build.c - changes of one step, and a space from a list. */
#include <guestmem/part.h>

#include <errno.h>
#include <inttypes.h>

#include "core/error.h"
#include "memory/avail.h"
#include "memory/txn.h"

static int end(struct gm_txn *txn, int rc, struct gm_error *err)
{
	if (!rc)
		rc = gm_txn_commit(txn, err);
	if (rc)
		gm_txn_abort(txn);
	return rc;
}

int gm_space_add(struct gm_space *space, const struct gm_region_desc *desc, uint64_t *ret_id,
	struct gm_error *err)
{
	struct gm_txn *txn;
	uint64_t id;
	int rc = gm_txn_begin(space, &txn, err);

	if (rc)
		return rc;
	rc = end(txn, gm_txn_add(txn, desc, &id, err), err);
	if (!rc && ret_id)
		*ret_id = id;
	return rc;
}

int gm_space_remove(struct gm_space *space, uint64_t id, struct gm_error *err)
{
	struct gm_txn *txn;
	int rc = gm_txn_begin(space, &txn, err);

	return rc ? rc : end(txn, gm_txn_remove(txn, id, err), err);
}

int gm_space_set_part(struct gm_space *space, uint64_t id, uint64_t off, uint64_t len,
	uint32_t state, struct gm_error *err)
{
	struct gm_txn *txn;
	int rc = gm_txn_begin(space, &txn, err);

	return rc ? rc : end(txn, gm_txn_set_part(txn, id, off, len, state, err), err);
}

/* Each block is checked against what is available when it is made, untouched; here against all of
 * them together. */
static int check_total(const struct gm_region_desc *descs, size_t nr, struct gm_error *err)
{
	uint64_t total = 0;
	uint64_t avail;

	for (size_t i = 0; i < nr; i++) {
		const struct gm_block_opts *opts = descs[i].backing;
		uint64_t len;

		if (descs[i].size < sizeof(*descs) || !opts || opts->size < sizeof(*opts) ||
			opts->reserve == GM_RESERVE_NONE || opts->backing > GM_BACKING_MEMFD ||
			opts->pages[0].kind == GM_PAGE_HUGETLB)
			continue;
		len = opts->len ? opts->len : descs[i].len;
		if (__builtin_add_overflow(total, len, &total))
			total = UINT64_MAX;
	}
	avail = gm_avail_bytes();
	if (total <= avail)
		return 0;
	return gm_error_set(err, -ENOMEM, 0, total,
		"the regions need %" PRIu64 " MiB together, %" PRIu64
		" MiB are available (without a reservation they are taken on trust)",
		total >> 20, avail >> 20);
}

int gm_space_build(const struct gm_space_opts *opts, const struct gm_region_desc *descs, size_t nr,
	struct gm_space **ret_space, struct gm_error *err)
{
	struct gm_space *space;
	struct gm_txn *txn;
	int rc = check_total(descs, nr, err);

	if (!rc)
		rc = gm_space_create(opts, &space, err);
	if (rc)
		return rc;
	rc = gm_txn_begin(space, &txn, err);
	if (!rc) {
		for (size_t i = 0; i < nr && !rc; i++)
			rc = gm_txn_add(txn, &descs[i], NULL, err);
		rc = end(txn, rc, err);
	}
	if (rc)
		gm_space_destroy(space);
	else
		*ret_space = space;
	return rc;
}
