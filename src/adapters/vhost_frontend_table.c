/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_frontend_table.c - the table of a back-end of vhost-user follows the map of a space.
 *
 * All is done when the listener is asked, as only then the back-end's refusal can be one of the whole change. If it
 * does not come about the same way is gone back.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "adapters/vhost_frontend.h"
#include "core/error.h"
#include "sys/sys.h"

#define PAGE 4096u

void gm_vhost_fe_map_free(struct gm_vhost_fe_map *map)
{
	gm_sys_free(map->raw);
	gm_sys_free(map->slots);
	gm_sys_free(map->bases);
	*map = (struct gm_vhost_fe_map){.raw = NULL};
}

static struct gm_vhost_table table_of(const struct gm_vhost_fe_map *map)
{
	struct gm_vhost_table table = {map->slots, map->nr};

	return table;
}

/* ---- messages ---- */

static int send_one(struct gm_vhost_frontend *fe, uint32_t request,
	const struct gm_vhost_slot *slot, struct gm_error *err)
{
	struct gm_vhost_fe_call call = {
		.msg = {.request = request, .len = sizeof(struct gm_vhost_one_region)},
		.fds = &slot->fd,
		.nr_fds = request == GM_VHOST_ADD_MEM_REG,
	};

	call.msg.u.one.region = slot->region;
	return gm_vhost_fe_call(fe, &call, err);
}

/* The answer is the same table with the back-end's addresses; then it waits until it may touch its memory. */
static int take_bases(struct gm_vhost_frontend *fe, const struct gm_vhost_msg *asked,
	const struct gm_vhost_fe_map *map)
{
	uint64_t deadline_ns = gm_vhost_fe_deadline(fe);
	struct gm_vhost_rx rx = {.got = 0};
	const struct gm_vhost_msg *reply = &rx.msg;
	int rc = gm_vhost_fe_wait(fe, deadline_ns, NULL);
	bool good;

	if (!rc)
		rc = gm_vhost_fe_recv(fe->sock, GM_VHOST_EXPECT_REPLY, &rx, deadline_ns);
	if (rc < 0)
		return rc;
	good = rx.nr_fds == 0 && reply->request == asked->request && reply->len == asked->len &&
	       reply->flags == (GM_VHOST_VERSION | GM_VHOST_REPLY) &&
	       reply->u.memory.nr == asked->u.memory.nr;
	for (size_t i = 0; good && i < map->nr; i++) {
		const struct gm_vhost_region *theirs = &reply->u.memory.region[i];
		const struct gm_vhost_region *ours = &asked->u.memory.region[i];

		good = theirs->gpa == ours->gpa && theirs->len == ours->len &&
		       theirs->off == ours->off && theirs->user % PAGE == 0 &&
		       theirs->user <= UINT64_MAX - ours->len;
		map->bases[i] = theirs->user;
	}
	gm_vhost_rx_clear(&rx);
	return good ? 0 : -EPROTO;
}

static int send_ack(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	struct gm_vhost_fe_call call = {
		.msg = {.request = GM_VHOST_SET_MEM_TABLE, .len = sizeof(uint64_t)},
		.silent = true,
	};

	return gm_vhost_fe_call(fe, &call, err);
}

static int table_in_postcopy(struct gm_vhost_frontend *fe, struct gm_vhost_fe_call *call,
	const struct gm_vhost_fe_map *map, struct gm_error *err)
{
	int rc;

	call->silent = true;
	rc = gm_vhost_fe_call(fe, call, err);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&fe->bases_lock);
	rc = take_bases(fe, &call->msg, map);
	pthread_mutex_unlock(&fe->bases_lock);
	if (rc < 0)
		return gm_vhost_fe_lose(fe, rc, "SET_MEM_TABLE in post-copy", err);
	for (size_t i = 0; fe->mapped && i < map->nr; i++) {
		rc = gm_checked_code(
			fe->mapped(fe->mapped_ctx, &map->slots[i].region, map->bases[i]));
		/* The back-end has them, and waits. */
		if (rc < 0)
			return gm_vhost_fe_lose(fe, rc, "what looks for its faults", err);
	}
	return send_ack(fe, err);
}

static int send_table(
	struct gm_vhost_frontend *fe, const struct gm_vhost_fe_map *map, struct gm_error *err)
{
	struct gm_vhost_fe_call call = {
		.msg = {.request = GM_VHOST_SET_MEM_TABLE, .len = (uint32_t)(8 + map->nr * 32)}};
	int fds[GM_VHOST_REGIONS_MAX];

	call.msg.u.memory.nr = (uint32_t)map->nr;
	for (size_t i = 0; i < map->nr; i++) {
		call.msg.u.memory.region[i] = map->slots[i].region;
		fds[i] = map->slots[i].fd;
	}
	call.fds = fds;
	call.nr_fds = (uint32_t)map->nr;
	if (fe->postcopy == GM_VHOST_FE_LISTENING)
		return table_in_postcopy(fe, &call, map, err);
	return gm_vhost_fe_call(fe, &call, err);
}

/* ---- steps ---- */

static int do_step(struct gm_vhost_frontend *fe, struct gm_vhost_step step,
	const struct gm_vhost_fe_map *from, const struct gm_vhost_fe_map *to, struct gm_error *err)
{
	switch (step.kind) {
	case GM_VHOST_STEP_REMOVE:
		return send_one(fe, GM_VHOST_REM_MEM_REG, &from->slots[step.index], err);
	case GM_VHOST_STEP_ADD:
		return send_one(fe, GM_VHOST_ADD_MEM_REG, &to->slots[step.index], err);
	case GM_VHOST_STEP_TABLE:
		return send_table(fe, to, err);
	default:
		return gm_vhost_fe_log_resize(fe, gm_vhost_plan_log_len(table_of(to)), err);
	}
}

/* A longer log does no harm, and a shorter one was the last step. */
static int undo_step(struct gm_vhost_frontend *fe, struct gm_vhost_step step,
	const struct gm_vhost_fe_map *from, const struct gm_vhost_fe_map *to)
{
	switch (step.kind) {
	case GM_VHOST_STEP_REMOVE:
		return send_one(fe, GM_VHOST_ADD_MEM_REG, &from->slots[step.index], NULL);
	case GM_VHOST_STEP_ADD:
		return send_one(fe, GM_VHOST_REM_MEM_REG, &to->slots[step.index], NULL);
	case GM_VHOST_STEP_TABLE:
		return send_table(fe, from, NULL);
	default:
		return 0;
	}
}

/* What was done of a way that was refused. A back-end that refuses this too is lost. */
static void go_back(struct gm_vhost_frontend *fe, const struct gm_vhost_step *steps, size_t done,
	const struct gm_vhost_fe_map *from, const struct gm_vhost_fe_map *to)
{
	int rc = 0;

	while (fe->sock >= 0 && done-- > 0 && !rc)
		rc = undo_step(fe, steps[done], from, to);
	if (rc < 0)
		gm_vhost_fe_lose(fe, rc, "", NULL);
}

int gm_vhost_fe_tell(struct gm_vhost_frontend *fe, const struct gm_vhost_fe_map *from,
	const struct gm_vhost_fe_map *to, struct gm_error *err)
{
	const struct gm_vhost_way way = {
		.max = fe->slots,
		.by_slot = gm_vhost_fe_has(fe, GM_VHOST_PROTOCOL_CONFIGURE_MEM_SLOTS),
		.log_len = fe->log.len,
	};
	struct gm_vhost_step *steps = gm_sys_alloc_array(
		gm_vhost_plan_room(from->nr, to->nr), sizeof(struct gm_vhost_step));
	size_t nr = 0;
	size_t i;
	int rc = 0;

	if (!steps)
		return gm_error_set(err, -ENOMEM, 0, 0, "%s: no memory", fe->name);
	rc = gm_vhost_plan(&way, table_of(from), table_of(to), steps, &nr, err);
	for (i = 0; !rc && i < nr; i++)
		rc = do_step(fe, steps[i], from, to, err);
	if (rc < 0 && i) {
		/* A table that was refused may be there in part. */
		bool table = steps[i - 1].kind == GM_VHOST_STEP_TABLE;

		go_back(fe, steps, table ? i : i - 1, from, to);
	}
	gm_sys_free(steps);
	return rc;
}

/* ---- sections ---- */

static int slot_of(struct gm_vhost_frontend *fe, const struct gm_section *section,
	struct gm_vhost_slot *ret, struct gm_error *err)
{
	struct gm_block_info info = {.size = sizeof(info)};
	struct stat st;
	int64_t page;
	int rc;

	if (!section->block || gm_block_info(section->block, &info) || info.fd < 0 ||
		info.flags & GM_BLOCK_PRIVATE)
		return gm_error_set(err, -ENOTSUP, section->gpa, section->len,
			"%s: memory at 0x%" PRIx64 " has no file that can be shared", fe->name,
			section->gpa);
	rc = gm_sys_fstat(info.fd, &st);
	page = rc < 0 ? rc : gm_sys_huge_page_size(info.fd);
	if (page < 0)
		return gm_error_set(err, (int)page, section->gpa, section->len,
			"%s: the file of the memory at 0x%" PRIx64 ": %s", fe->name, section->gpa,
			gm_error_word((int)page));
	*ret = (struct gm_vhost_slot){
		.region = {.gpa = section->gpa,
			.len = section->len,
			.user = section->gpa,
			.off = info.offset + section->block_off},
		.file = {(uint64_t)st.st_dev, (uint64_t)st.st_ino},
		.page = page ? (uint64_t)page : PAGE,
		.fd = info.fd,
	};
	return 0;
}

static bool goes(const struct gm_vhost_slot *slot, const struct gm_change *changes, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		if (changes[i].kind == GM_CHANGE_REMOVE &&
			changes[i].section.gpa == slot->region.gpa)
			return true;
	}
	return false;
}

static size_t insert(struct gm_vhost_slot *slots, size_t nr, const struct gm_vhost_slot *slot)
{
	size_t at = nr;

	while (at && slots[at - 1].region.gpa > slot->region.gpa) {
		slots[at] = slots[at - 1];
		at--;
	}
	slots[at] = *slot;
	return nr + 1;
}

static int change_raw(struct gm_vhost_frontend *fe, const struct gm_change *changes, size_t nr,
	struct gm_vhost_fe_map *to, struct gm_error *err)
{
	size_t kept = 0;

	for (size_t i = 0; i < fe->now.nr_raw; i++) {
		if (!goes(&fe->now.raw[i], changes, nr))
			to->raw[kept++] = fe->now.raw[i];
	}
	for (size_t i = 0; i < nr; i++) {
		struct gm_vhost_slot slot;
		int rc;

		if (changes[i].kind != GM_CHANGE_ADD)
			continue;
		rc = slot_of(fe, &changes[i].section, &slot, err);
		if (rc < 0)
			return rc;
		kept = insert(to->raw, kept, &slot);
	}
	to->nr_raw = kept;
	return 0;
}

static int change_map(struct gm_vhost_frontend *fe, const struct gm_change *changes, size_t nr,
	struct gm_vhost_fe_map *to, struct gm_error *err)
{
	size_t room = fe->now.nr_raw + nr;
	int rc;

	to->raw = gm_sys_alloc_array(room, sizeof(*to->raw));
	to->slots = gm_sys_alloc_array(room, sizeof(*to->slots));
	to->bases = gm_sys_alloc_array(room, sizeof(*to->bases));
	if (!to->raw || !to->slots || !to->bases)
		return gm_error_set(err, -ENOMEM, 0, 0, "%s: no memory", fe->name);
	rc = change_raw(fe, changes, nr, to, err);
	if (rc < 0)
		return rc;
	to->nr = to->nr_raw;
	memcpy(to->slots, to->raw, to->nr * sizeof(*to->slots));
	return gm_vhost_plan_join(to->slots, &to->nr, err);
}

/* ---- the listener ---- */

static void publish(struct gm_vhost_frontend *fe, const struct gm_vhost_fe_map *map)
{
	pthread_mutex_lock(&fe->bases_lock);
	fe->now = *map;
	pthread_mutex_unlock(&fe->bases_lock);
}

static int prepare(void *ctx, const struct gm_change *changes, size_t nr, struct gm_error *err)
{
	struct gm_vhost_frontend *fe = ctx;
	struct gm_vhost_fe_map to = {.nr = 0};
	struct gm_inside inside;
	int rc = gm_vhost_fe_enter(fe, &inside, err);

	if (rc < 0)
		return rc;
	rc = change_map(fe, changes, nr, &to, err);
	if (!rc)
		rc = gm_vhost_fe_rings_check(fe, &fe->now, &to, err);
	if (!rc && fe->sock >= 0)
		rc = gm_vhost_fe_tell(fe, &fe->now, &to, err);
	if (rc < 0) {
		gm_vhost_fe_map_free(&to);
	} else {
		fe->before = fe->now;
		fe->asked = true;
		publish(fe, &to);
	}
	return gm_vhost_fe_leave(fe, &inside, rc, err);
}

static void over(struct gm_vhost_frontend *fe, bool back)
{
	struct gm_inside inside;

	if (!fe->asked || gm_vhost_fe_enter(fe, &inside, NULL))
		return;
	if (back) {
		struct gm_vhost_fe_map map = fe->now;

		if (fe->sock >= 0 && gm_vhost_fe_tell(fe, &fe->now, &fe->before, NULL) < 0)
			gm_vhost_fe_lose(fe, -EREMOTEIO, "", NULL);
		publish(fe, &fe->before);
		fe->before = map;
	}
	gm_vhost_fe_map_free(&fe->before);
	fe->asked = false;
	gm_vhost_fe_leave(fe, &inside, 0, NULL);
}

static void commit(void *ctx, uint64_t generation)
{
	(void)generation;
	over(ctx, false);
}

static void undo(void *ctx)
{
	over(ctx, true);
}

int gm_vhost_frontend_attach(
	struct gm_vhost_frontend *fe, struct gm_space *space, struct gm_error *err)
{
	const struct gm_listener_ops ops = {
		.size = sizeof(ops),
		.name = fe->name,
		.priority = fe->opts.priority,
		.kinds = fe->opts.kinds,
		.join = GM_JOIN_FILE,
		.prepare = prepare,
		.commit = commit,
		.abort = undo,
		.ctx = fe,
	};
	int rc;

	if (fe->space)
		return gm_error_set(err, -EBUSY, 0, 0, "%s: it has a space", fe->name);
	rc = gm_reader_create(space, fe->name, &fe->reader, err);
	if (rc < 0)
		return rc;
	fe->space = space;
	rc = gm_listener_create(space, &ops, &fe->listener, err);
	if (rc < 0) {
		gm_reader_destroy(fe->reader);
		fe->reader = NULL;
		fe->space = NULL;
	}
	return rc;
}
