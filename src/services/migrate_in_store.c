/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_in_store.c - the layout of a source, and its pages into memory that nobody uses yet. */
#include <errno.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>

#include <guestmem/access.h>
#include <guestmem/guard.h>

#include "core/error.h"
#include "memory/block.h"
#include "services/migrate_in.h"
#include "sys/guard.h"
#include "sys/sys.h"

/* ---- the layout ---- */

static int total(const struct gm_migrate_msg *msg, uint64_t most, uint64_t *ret)
{
	*ret = 0;
	for (uint32_t i = 0; i < msg->nr; i++) {
		if (msg->regions[i].len > most - *ret)
			return -E2BIG;
		*ret += msg->regions[i].len;
	}
	return 0;
}

int gm_migrate_in_layout(
	struct gm_migrate_in *in, struct gm_migrate_heard *heard, const char **ret_why)
{
	const struct gm_migrate_msg *msg = &heard->msg;
	struct gm_migrate_map map;
	uint64_t bytes;
	uint64_t words;

	if (in->machine.state != GM_DESTINATION_OPEN)
		return 0;
	*ret_why = "the source has more memory than the destination takes";
	if (total(msg, in->opts.memory_max, &bytes))
		return -E2BIG;
	*ret_why = "the destination has no memory for the pages' bits";
	in->starts = gm_sys_alloc_array(msg->nr, sizeof(*in->starts));
	if (!in->starts)
		return -ENOMEM;
	gm_migrate_map_init(&map, msg->regions, msg->nr, in->starts);
	words = gm_bits_words(map.pages);
	in->bits = gm_sys_alloc_array(3 * words, sizeof(*in->bits));
	if (!in->bits)
		return -ENOMEM;
	in->map = map;
	in->lines.terms.regions = in->regions;
	in->lines.terms.nr = msg->nr;
	in->fds = *heard->fds;
	heard->fds->nr = 0;
	(void)gm_migrate_destination_map(
		&in->machine, &in->map, in->bits, in->bits + words, in->bits + 2 * words);
	in->stats.memory = in->machine.missing << GM_MIGRATE_PAGE_LOG2;
	return 0;
}

void gm_migrate_in_prepare(struct gm_migrate_in *in)
{
	struct gm_migrate_in_region *regions = gm_sys_alloc_array(in->map.nr, sizeof(*regions));
	uint32_t fd = 0;

	in->asked |= IN_PREPARED;
	if (!regions) {
		in->asked &= ~(uint32_t)IN_PREPARED;
		(void)gm_migrate_destination_prepared(&in->machine, -ENOMEM,
			"the destination has no memory for the regions", gm_sys_now_ns());
		return;
	}
	for (uint32_t i = 0; i < in->map.nr; i++) {
		const struct gm_migrate_region *from = &in->map.regions[i];

		regions[i] = (struct gm_migrate_in_region){.gpa = from->gpa,
			.len = from->len,
			.page_size = UINT64_C(1) << from->page_log2,
			.fd_plus = from->by_fd && fd < in->fds.nr ? 1 + in->fds.fd[fd++] : 0,
			.fd_off = from->fd_off};
	}
	pthread_mutex_unlock(&in->lines.lock);
	in->ops.prepare(in->ops.ctx, regions, in->map.nr);
	pthread_mutex_lock(&in->lines.lock);
	gm_fds_close(&in->fds);
	in->fds.nr = 0;
	gm_sys_free(regions);
}

/* ---- the embedder's memory ---- */

static int add_piece(struct gm_migrate_in *in, const struct gm_reach *reach, uint32_t region)
{
	struct in_piece *more = gm_sys_realloc(in->pieces, in->nr_pieces + 1, sizeof(*in->pieces));
	struct gm_block_info info = {.size = sizeof(info)};
	struct in_piece *piece;

	if (!more)
		return -ENOMEM;
	in->pieces = more;
	piece = &more[in->nr_pieces];
	*piece = (struct in_piece){.reach = *reach,
		.first = in->map.starts[region] +
			 ((reach->range.first - in->map.regions[region].gpa) >>
				 GM_MIGRATE_PAGE_LOG2),
		.nr = gm_range_len(&reach->range) >> GM_MIGRATE_PAGE_LOG2,
		.fd = -1};
	if (!gm_block_info(reach->block, &info) && info.fd >= 0 &&
		!(info.flags & GM_BLOCK_PRIVATE)) {
		piece->fd = info.fd;
		piece->fd_off = info.offset + reach->block_off;
	}
	in->nr_pieces++;
	return 0;
}

static const char *judge(struct gm_migrate_in *in, const struct gm_reach *reach, uint32_t region)
{
	const struct gm_migrate_region *r = &in->map.regions[region];

	if (reach->part != GM_PART_SHARED)
		return "the destination's memory is not all plugged in and shared";
	if (!reach->hva)
		return "the destination's memory is not mapped there";
	if (!gm_is_aligned(reach->range.first | gm_range_len(&reach->range), MIGRATE_PAGE))
		return "the destination's memory is not made of pages";
	if (!(in->opts.flags & GM_MIGRATE_IN_NO_POSTCOPY) && !r->by_fd &&
		reach->block->page_size > UINT64_C(1) << r->page_log2)
		return "the destination's pages are larger than the source's";
	return NULL;
}

int gm_migrate_in_take_space(struct gm_migrate_in *in, struct gm_space *space, const char **ret_why)
{
	*ret_why = "the destination has no memory at the source's addresses";
	for (uint32_t i = 0; i < in->map.nr; i++) {
		struct gm_range rest;

		if (!gm_range_make(in->map.regions[i].gpa, in->map.regions[i].len, &rest))
			return -ERANGE;
		for (;;) {
			struct gm_reach reach;
			const char *why;
			int rc = gm_reach_get(space, &rest, &reach);

			if (rc)
				return rc;
			why = judge(in, &reach, i);
			rc = why ? -ENOTSUP : add_piece(in, &reach, i);
			if (rc) {
				gm_reach_put(&reach);
				*ret_why = why ? why : "the destination has no memory for this";
				return rc;
			}
			if (reach.range.last >= rest.last)
				break;
			rest.first = reach.range.last + 1;
		}
	}
	in->space = space;
	return 0;
}

void gm_migrate_in_let_go(struct gm_migrate_in *in)
{
	for (size_t i = 0; i < in->nr_pieces; i++)
		gm_reach_put(&in->pieces[i].reach);
	gm_sys_free(in->pieces);
	in->pieces = NULL;
	in->nr_pieces = 0;
}

/* ---- pages ---- */

struct in_piece *gm_migrate_in_piece(const struct gm_migrate_in *in, uint64_t bit)
{
	size_t low = 0;
	size_t high = in->nr_pieces;

	while (high - low > 1) {
		size_t mid = low + (high - low) / 2;

		if (in->pieces[mid].first <= bit)
			low = mid;
		else
			high = mid;
	}
	return &in->pieces[low];
}

void gm_migrate_in_here(
	const struct gm_migrate_in *in, const struct gm_range *bits, uint64_t *words)
{
	struct gm_range run;

	for (uint64_t at = bits->first; gm_bits_next(in->machine.have, at, bits->last, &run);
		at = run.last + 1) {
		gm_bits_set(
			words, &(struct gm_range){run.first - bits->first, run.last - bits->first});
		if (run.last == bits->last)
			break;
	}
}

/* @from NULL: zeros. */
static int put(struct gm_migrate_in *in, const struct gm_range *bits, const uint8_t *from)
{
	static const uint8_t zeros[MIGRATE_PAGE];
	uint64_t bit = bits->first;

	while (bit <= bits->last) {
		const struct in_piece *piece = gm_migrate_in_piece(in, bit);
		uint64_t in_piece = bit - piece->first;
		uint64_t nr = bits->last - bit + 1;
		uint8_t *to = piece->reach.hva + in_piece * MIGRATE_PAGE;
		struct gm_guard_fault fault;
		size_t left;

		if (nr > piece->nr - in_piece)
			nr = piece->nr - in_piece;
		if (!from)
			nr = 1;
		left = gm_guard_copy_to(to,
			from ? from + (bit - bits->first) * MIGRATE_PAGE : zeros, nr * MIGRATE_PAGE,
			&fault);
		if (left)
			return gm_guard_errno(&fault);
		bit += nr;
	}
	return 0;
}

/* Memory is zeros where nothing has come yet. */
static int put_zeros(struct gm_migrate_in *in, const struct gm_range *bits)
{
	struct gm_range run;
	int rc = 0;

	for (uint64_t at = bits->first; !rc && at <= bits->last; at = run.last + 1) {
		if (!gm_bits_next(in->machine.have, at, bits->last, &run))
			break;
		rc = put(in, &run, NULL);
	}
	return rc;
}

int gm_migrate_in_store(struct gm_migrate_in *in, const struct gm_migrate_place *place,
	uint32_t kind, const uint8_t *memory)
{
	struct gm_range bits;

	if (!gm_migrate_map_bits(&in->map, place, &bits))
		return -EINVAL;
	if (kind == GM_MIGRATE_LOST)
		return 0;
	return kind == GM_MIGRATE_ZEROS ? put_zeros(in, &bits) : put(in, &bits, memory);
}

static void give_back(const struct in_piece *piece, uint64_t first, uint64_t nr)
{
	uint64_t off = first * MIGRATE_PAGE;
	uint64_t len = nr * MIGRATE_PAGE;

	if (piece->fd < 0)
		(void)gm_sys_madvise(piece->reach.hva + off, len, MADV_DONTNEED);
	else
		(void)gm_sys_fallocate(piece->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			piece->fd_off + off, len);
}

/* The pager will have to do what fails here, or what the kernel brings back with a huge page. */
void gm_migrate_in_drop(struct gm_migrate_in *in, const struct gm_migrate_place *place)
{
	struct gm_range bits;

	if (!gm_migrate_map_bits(&in->map, place, &bits))
		return;
	for (uint64_t bit = bits.first; bit <= bits.last;) {
		const struct in_piece *piece = gm_migrate_in_piece(in, bit);
		uint64_t first = bit - piece->first;
		uint64_t nr = piece->nr - first;

		if (nr > bits.last - bit + 1)
			nr = bits.last - bit + 1;
		give_back(piece, first, nr);
		bit += nr;
	}
}

int gm_migrate_in_keep_state(struct gm_migrate_in *in, const uint8_t *bytes, uint64_t len)
{
	size_t room = in->state_room ? in->state_room : 64u << 10;
	uint8_t *more;

	while (room - in->state_len < len)
		room *= 2;
	if (room != in->state_room) {
		more = gm_sys_realloc(in->state, room, 1);
		if (!more)
			return -ENOMEM;
		in->state = more;
		in->state_room = room;
	}
	memcpy(in->state + in->state_len, bytes, len);
	in->state_len += len;
	return 0;
}
