/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshot_live.c - see snapshot_live.h: its life, and a save from beginning to end. */
#include "services/snapshot_live.h"

#include <errno.h>
#include <string.h>

#include "core/error.h"
#include "core/range.h"
#include "core/snapfile.h"
#include "services/newfile.h"

#define ROOM (UINT64_C(16) << 20)
#define ROOM_MIN (UINT64_C(64) << 10)
#define ROOM_MAX (UINT64_C(4) << 30)
#define CHUNK (UINT64_C(128) << 10) /* as the writer's default */

static void free_live(struct gm_snapshot_live *live)
{
	gm_live_pool_free(live);
	gm_sys_free(live->parts);
	gm_sys_cond_destroy(&live->changed);
	pthread_mutex_destroy(&live->lock);
	gm_sys_free(live);
}

static uint32_t slots_of(uint64_t room)
{
	uint32_t nr = ROOM_MIN / LIVE_PAGE;

	while (room / LIVE_PAGE / 2 >= nr)
		nr *= 2;
	return nr;
}

int gm_snapshot_live_create(struct gm_space *space, struct gm_pager *pager,
	const struct gm_snapshot_live_opts *opts, struct gm_snapshot_live **ret_live,
	struct gm_error *err)
{
	struct gm_snapshot_live_opts copy = {.size = sizeof(copy)};
	int rc = opts ? gm_opts_copy(&copy, sizeof(copy), opts, sizeof(copy)) : 0;
	struct gm_snapshot_live *live;

	if (rc)
		return gm_opts_error(err, rc, "saving a guest that runs");
	if (copy.room == 0)
		copy.room = ROOM;
	if (copy.wait_ms == 0)
		copy.wait_ms = 30000;
	if (copy.flags || copy.room < ROOM_MIN || copy.room > ROOM_MAX)
		return gm_error_set(err, -EINVAL, 0, 0,
			"saving a guest that runs: the room is out of bounds, or a flag is "
			"unknown");
	live = gm_sys_alloc(sizeof(*live));
	if (!live)
		return gm_error_set(err, -ENOMEM, 0, 0, "saving a guest that runs: out of memory");
	live->taker = gm_live_taker;
	live->space = space;
	live->pager = pager;
	live->opts = copy;
	live->s.pagemap = -1;
	live->nr_slots = slots_of(copy.room);
	pthread_mutex_init(&live->lock, NULL);
	gm_sys_cond_init(&live->changed);
	rc = gm_live_pool_make(live);
	if (rc) {
		free_live(live);
		return gm_error_set(err, rc, 0, 0,
			"saving a guest that runs: no memory for copies: %s", gm_error_word(rc));
	}
	*ret_live = live;
	return 0;
}

void gm_snapshot_live_destroy(struct gm_snapshot_live *live)
{
	if (!live)
		return;
	if (live->armed) {
		gm_snapshot_live_cancel(live);
		gm_live_let_go(live, false);
	}
	free_live(live);
}

int gm_snapshot_live_arm(struct gm_snapshot_live *live, struct gm_log *log, struct gm_error *err)
{
	uint64_t begun = gm_sys_now_ns();
	int rc;

	if (live->armed)
		return gm_error_set(err, -EBUSY, 0, 0, "saving a guest that runs: it is armed");
	pthread_mutex_lock(&live->lock);
	gm_live_pool_reset(live);
	live->code = 0;
	live->stats = (struct gm_snapshot_live_stats){.size = 0};
	pthread_mutex_unlock(&live->lock);
	rc = gm_live_arm(live, log, err);
	if (rc)
		return rc;
	live->cursor = 0;
	live->armed = true;
	pthread_mutex_lock(&live->lock);
	live->stats.arm_ns = gm_sys_now_ns() - begun;
	pthread_mutex_unlock(&live->lock);
	return 0;
}

void gm_snapshot_live_cancel(struct gm_snapshot_live *live)
{
	pthread_mutex_lock(&live->lock);
	if (!live->code) {
		live->code = -ECANCELED;
		gm_error_set(&live->why, -ECANCELED, 0, 0, "saving a guest that runs: canceled");
	}
	gm_sys_cond_wake(&live->changed);
	pthread_mutex_unlock(&live->lock);
}

/* ---- saving ---- */

static int check(const struct gm_snapshot_live *live, const char *path,
	const struct gm_snapshot_opts *opts, struct gm_error *err)
{
	static const uint8_t none[16];
	struct gm_block_info info = {.size = sizeof(info)};
	bool base = memcmp(opts->base, none, 16) != 0;

	if (opts->dirty || base != (live->log != NULL))
		return gm_error_set(err, -EINVAL, 0, 0,
			"saving a guest that runs: pages are those of a log, for a difference with "
			"a base");
	for (size_t i = 0; i < live->s.nr; i++) {
		const struct gm_reach *reach = &live->s.pieces[i].reach;

		if (!gm_block_info(reach->block, &info) && info.fd >= 0 &&
			gm_newfile_is(path, info.fd))
			return gm_error_set(err, -EINVAL, reach->range.first,
				gm_range_len(&reach->range),
				"%s: it is the file that the memory lies in", path);
	}
	return 0;
}

static int write_file(struct gm_snapshot_live *live, const char *path,
	struct gm_snapshot_opts *opts, struct gm_snapshot_info *ret_info, struct gm_error *err)
{
	const struct gm_snapshot_first first = {
		.next = gm_live_next,
		.code = gm_live_code,
		.ctx = live,
	};
	struct gm_source *source;
	int rc = check(live, path, opts, err);

	if (!rc)
		rc = gm_live_source(live, &source, err);
	if (rc)
		return rc;
	opts->dirty = live->s.dirty;
	opts->flags |= GM_SNAPSHOT_LOST;
	live->chunk = opts->chunk ? opts->chunk : CHUNK;
	rc = gm_snapshot_write_first(
		source, live->s.regions, live->s.nr, path, opts, &first, ret_info, err);
	gm_source_destroy(source);
	return rc;
}

int gm_snapshot_live_save(struct gm_snapshot_live *live, const char *path,
	const struct gm_snapshot_opts *user, struct gm_snapshot_info *ret_info,
	struct gm_error *err)
{
	struct gm_snapshot_opts opts = {.size = sizeof(opts)};
	int code;
	int rc;

	if (!live->armed)
		return gm_error_set(err, -EINVAL, 0, 0, "saving a guest that runs: not armed");
	rc = user ? gm_opts_copy(&opts, sizeof(opts), user, sizeof(opts)) : 0;
	if (rc)
		gm_opts_error(err, rc, "saving a guest that runs");
	pthread_mutex_lock(&live->lock);
	live->saving = true;
	code = live->code;
	pthread_mutex_unlock(&live->lock);
	if (!rc && !code)
		rc = write_file(live, path, &opts, ret_info, err);
	pthread_mutex_lock(&live->lock);
	live->saving = false;
	if (code || (rc && live->code))
		rc = gm_error_pass(err, &live->why, live->code);
	gm_sys_cond_wake(&live->changed);
	pthread_mutex_unlock(&live->lock);
	/* Who waits goes on at once. */
	if (rc)
		gm_live_fail(live, rc, UINT64_MAX, "it failed");
	gm_live_let_go(live, rc == 0);
	return rc;
}

int gm_snapshot_live_stats(struct gm_snapshot_live *live, struct gm_snapshot_live_stats *ret_stats)
{
	size_t size = ret_stats->size;

	if (size < sizeof(*ret_stats))
		return -EINVAL;
	pthread_mutex_lock(&live->lock);
	*ret_stats = live->stats;
	ret_stats->pre_now = live->used * LIVE_PAGE;
	pthread_mutex_unlock(&live->lock);
	ret_stats->size = size;
	return 0;
}
