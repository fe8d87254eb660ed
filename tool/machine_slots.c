/* SPDX-License-Identifier: BSD-3-Clause */
/* machine_slots.c - the machine's memory as KVM's slots, which the library keeps in step with the space. */
#include "machine.h"
#include "tool.h"

bool machine_slots_init(struct machine *m)
{
	struct gm_kvm_opts opts = {.size = sizeof(opts), .vm_fd = m->vm_fd};
	struct gm_error err;

	if (gm_kvm_create(m->memory->space, &opts, &m->slots, &err) == 0)
		return true;
	tool_error("run: memory slots: %s", err.text);
	return false;
}

void machine_slots_fini(struct machine *m)
{
	struct gm_error err;

	/* No transaction of ours is open. */
	if (gm_kvm_destroy(m->slots, &err) < 0)
		tool_error("run: memory slots: %s", err.text);
	m->slots = NULL;
}
