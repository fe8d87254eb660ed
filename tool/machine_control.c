/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * machine_control.c - requests of the guest about its memory's backing: the registers as a page of MMIO behind
 * the mailbox and as ports, both of one door.
 *
 * A vCPU that meets memory which the guest has protected cannot go on. Protection is lifted then, counted, and
 * the vCPU runs again: the guest reads the count in the mailbox.
 */
#include "machine.h"

#include <guestmem/control_message.h>
#include <guestmem/guard.h>

#include "tool.h"

static bool add_door(struct machine *m, struct gm_space *space, uint64_t at, uint64_t len)
{
	struct gm_device_ops ops;
	struct gm_region_desc desc = {.size = sizeof(desc),
		.gpa = at,
		.len = len,
		.kind = GM_REGION_MMIO,
		.name = "control",
		.device = &ops};
	struct gm_error err;

	gm_control_door_ops(m->control.door, &ops);
	if (gm_space_add(space, &desc, NULL, &err) == 0)
		return true;
	tool_error("control: %s", err.text);
	return false;
}

bool machine_control_init(struct machine *m)
{
	const struct gm_control_opts opts = {
		.size = sizeof(opts),
		.allow = m->opts.control,
		.rate = m->opts.control_rate,
		.numa_nodes = UINT64_MAX,
	};
	struct gm_error err;

	if (!m->opts.control)
		return true;
	/* So that this process survives what it finds protected. */
	m->control.guarded = gm_guard_install() == 0;
	if (gm_control_create(m->memory->space, &opts, &m->control.control, &err) < 0 ||
		gm_control_door_create(m->control.control, 0, &m->control.door, &err) < 0) {
		tool_error("control: %s", err.text);
		return false;
	}
	return add_door(m, m->memory->space, machine_control_gpa(m), RUN_CONTROL_LEN) &&
	       add_door(m, m->ports, RUN_PORT_CONTROL, GM_CONTROL_DOOR_LEN);
}

void machine_control_fini(struct machine *m)
{
	struct gm_error err;

	if (gm_control_destroy(m->control.control, &err) < 0)
		tool_error("control: %s", err.text);
	gm_control_door_destroy(m->control.door);
	if (m->control.guarded)
		gm_guard_remove();
	m->control = (struct machine_control){0};
}

uint64_t machine_control_gpa(const struct machine *m)
{
	return m->opts.control ? m->mailbox_gpa + RUN_MAILBOX_LEN : 0;
}

uint64_t machine_control_lifted(const struct machine *m)
{
	return __atomic_load_n(&m->control.lifted, __ATOMIC_ACQUIRE);
}

bool machine_control_lift(struct machine *m, uint64_t seen)
{
	uint64_t bytes;

	if (!m->control.control)
		return false;
	if (gm_control_lift(m->control.control, 0, 0, &bytes) == 0 && bytes)
		__atomic_fetch_add(&m->control.lifted, 1, __ATOMIC_RELEASE);
	/* Another vCPU's turn has lifted it. */
	return machine_control_lifted(m) != seen;
}
