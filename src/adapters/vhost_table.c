/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_table.c - messages about memory.
 *
 * A change is planned, which checks all of it; only then, and only if something goes, queues are stopped. What fails
 * leaves memory and rings as they were.
 */
#include "adapters/vhost_backend.h"

#include <errno.h>
#include <string.h>

#include "core/error.h"
#include "sys/sys.h"

static int commit(struct gm_vhost_backend *b, struct gm_error *err)
{
	const bool goes = b->mem.nr_gone != 0;
	int rc = gm_vhost_log_covers(b, b->mem.next, b->mem.nr_next, err);

	if (rc) {
		gm_vhost_memory_abort(&b->mem);
		return rc;
	}
	/* What comes by post-copy is not touched before it is registered. */
	if (goes || b->postcopy == POSTCOPY_LISTENING)
		gm_vhost_rings_pause(b);
	rc = gm_vhost_memory_commit(&b->mem, err);
	/* What is translated leads to guest addresses at which another region may lie now. */
	if (goes)
		gm_vhost_iotlb_forget(b);
	if (b->ops.memory)
		b->ops.memory(b->o.ctx);
	return rc;
}

static bool same_addresses(const struct gm_vhost_backend *b)
{
	return vhost_has(b, GM_VHOST_PROTOCOL_GPA_ADDRESSES);
}

int gm_vhost_on_mem_table(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;
	const struct gm_vhost_memory *table = &call->msg->u.memory;
	int rc;

	if (b->wants_ack)
		return gm_vhost_postcopy_begin(call);
	rc = gm_vhost_memory_plan_table(
		&b->mem, table->region, call->fds, table->nr, same_addresses(b), call->err);
	if (!rc)
		rc = commit(b, call->err);
	if (!rc && b->postcopy == POSTCOPY_LISTENING)
		return gm_vhost_postcopy_answer(call);
	gm_vhost_rings_go(b);
	return rc;
}

int gm_vhost_on_max_slots(struct vhost_call *call)
{
	gm_vhost_answer_number(call, GM_VHOST_SLOTS_MAX);
	return 0;
}

int gm_vhost_on_add_region(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;
	int rc = gm_vhost_memory_plan_add(
		&b->mem, &call->msg->u.one.region, call->fds[0], same_addresses(b), call->err);

	if (!rc)
		rc = commit(b, call->err);
	gm_vhost_rings_go(b);
	return rc;
}

int gm_vhost_on_remove_region(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;
	int rc = gm_vhost_memory_plan_remove(&b->mem, &call->msg->u.one.region, call->err);

	if (!rc)
		rc = commit(b, call->err);
	gm_vhost_rings_go(b);
	return rc;
}

void gm_vhost_table_drop(struct gm_vhost_backend *b)
{
	gm_vhost_memory_abort(&b->mem);
	if (b->mem.nr == 0)
		return;
	/* There is nothing to be had for it, so that memory may be short is no reason to fail. */
	if (gm_vhost_memory_plan_table(&b->mem, NULL, NULL, 0, false, NULL) == 0)
		gm_vhost_memory_commit(&b->mem, NULL);
}
